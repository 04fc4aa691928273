"""Checks predictions and labels, and makes flat NumPy arrays of them.

Sizes: N predictions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

ORDER = "The order is (predictions, labels), as in torchmetrics; scikit-learn's is the reverse."


def checked(predictions: Any, labels: Any, *, probabilities: bool) -> tuple[np.ndarray, np.ndarray]:
    """(predictions, labels), float64 [N] each, of tensors or arrays of one shape.

    Raises:
      ValueError: the shapes differ; a label is neither 0 nor 1; a prediction is NaN; or, with `probabilities`, outside
        [0, 1].
      TypeError: they hold no real numbers.
    """
    p, y = _numbers("predictions", predictions), _numbers("labels", labels)
    if p.squeeze().shape != y.squeeze().shape:
        raise ValueError(f"predictions and labels must have one shape; got {list(p.shape)} and {list(y.shape)}.")
    p, y = p.reshape(-1), y.reshape(-1)
    _refuse("labels must be 0 or 1", y, (y != 0) & (y != 1), ORDER)
    _refuse("predictions must be numbers", p, np.isnan(p), "Look for a loss that became NaN or infinite.")
    if probabilities:
        _refuse("predictions must lie in [0, 1]", p, (p < 0) | (p > 1), "Logits go through torch.sigmoid first.")
    return p, y


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
