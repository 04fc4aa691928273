"""Checks what a metric is given, and makes flat NumPy arrays of it.

Sizes: N predictions.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

ORDER = "The order is (predictions, labels), as in torchmetrics; scikit-learn's is the reverse."
Labels = Literal["binary", "gains", "real"]
"""binary: 0 or 1. gains: 0 or more, as NDCG takes. real: any finite number."""


def checked(
    predictions: Any, labels: Any, *, probabilities: bool, wanted: Labels = "binary"
) -> tuple[np.ndarray, np.ndarray]:
    """(predictions, labels), float64 [N] each, of tensors or arrays of one shape.

    Raises:
      ValueError: the shapes differ; a label is not as wanted; a prediction is NaN; or, with `probabilities`, outside [0, 1].
      TypeError: they hold no real numbers.
    """
    p, y = _numbers("predictions", predictions), _numbers("labels", labels)
    if p.squeeze().shape != y.squeeze().shape:
        raise ValueError(f"predictions and labels must have one shape; got {list(p.shape)} and {list(y.shape)}.")
    p, y = p.reshape(-1), y.reshape(-1)
    _check_labels(y, wanted)
    _refuse("predictions must be numbers", p, np.isnan(p), "Look for a loss that became NaN or infinite.")
    if probabilities:
        _refuse("predictions must lie in [0, 1]", p, (p < 0) | (p > 1), "Logits go through torch.sigmoid first.")
    return p, y


def _check_labels(y: np.ndarray, wanted: Labels) -> None:
    if wanted == "binary":
        _refuse("labels must be 0 or 1", y, (y != 0) & (y != 1), ORDER)
    elif wanted == "gains":
        _refuse("labels must be finite and 0 or more", y, ~np.isfinite(y) | (y < 0), ORDER)
    else:
        _refuse("labels must be finite", y, ~np.isfinite(y), ORDER)


def checked_groups(groups: Any, n: int, metric: str) -> np.ndarray:
    """int64 [N].

    Raises:
      ValueError: there are none, or not N. TypeError: they are no integers.
    """
    if groups is None:
        raise ValueError(f"{metric} needs groups, an integer for each row: update(predictions, labels, groups).")
    array = groups.detach().cpu().numpy() if isinstance(groups, torch.Tensor) else np.asarray(groups)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(
            f"groups must be integers; got {array.dtype}. recis_core.hashing makes integers of text, numpy.unique's inverse of "
            "anything."
        )
    if array.size != n:
        raise ValueError(f"groups must have one integer for each of {n} predictions; got {array.size}.")
    flat = array.reshape(-1)
    return flat.copy().view(np.int64) if flat.dtype == np.uint64 else flat.astype(np.int64)


def checked_weights(weights: Any, n: int) -> np.ndarray:
    """float64 [N]; ones for None.

    Raises:
      ValueError: one is negative or not finite, or there are not N. TypeError: they are no real numbers.
    """
    if weights is None:
        return np.ones(n)
    w = _numbers("weights", weights).reshape(-1)
    if len(w) != n:
        raise ValueError(f"weights must have one number for each of {n} predictions; got {len(w)}.")
    _refuse("weights must be finite and 0 or more", w, ~np.isfinite(w) | (w < 0), "Leave rows out by weight 0.")
    return w


def _numbers(name: str, values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values if values.is_complex() else values.double()).numpy()
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers; got {array.dtype}.")
    return array.astype(np.float64)


def _refuse(rule: str, values: np.ndarray, wrong: np.ndarray, way_out: str) -> None:
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"{rule}; got {values[first]:.7g} at [{first}]. {way_out}")
