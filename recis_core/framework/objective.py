"""From what a model returns to a loss, losses by name, and predictions.

Sizes: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Batch = Any
OF_MODEL = (
    "a 0-d tensor, the mean loss of the batch's rows; a dict of these by name; or a pair (one of these, predictions)"
)
OF_LOSS = "a 0-d tensor, the mean loss of the batch's rows; a [B] tensor, each row's loss; or a dict of these by name"


@dataclass(frozen=True)
class Losses:
    """Means over the rows of one batch. total: 0-d, what backward starts from. by_name: empty where there is one loss."""

    total: Tensor
    by_name: dict[str, Tensor] = field(default_factory=dict)


class Objective:
    """What a Trainer minimises.

    A model without `loss` returns its loss: a 0-d tensor, the mean over the batch's rows; or {name: such a tensor}, whose
    sum by `weights` is minimised; or a pair of one of these and predictions.
    With `loss` it returns outputs, such as logits, and loss(outputs, labels) gives a 0-d tensor; a [B] tensor, each row's
    loss; or a dict of these by name.

    Args:
      loss: None, or a function of (outputs, labels). label: key of labels in a batch; None: labels are the whole batch.
      weights: {name of a loss: factor}; others have 1. predict: from outputs to predictions, where `loss` is given.
    """

    def __init__(
        self,
        loss: Callable[[Any, Any], Any] | None = None,
        *,
        label: str | None = "label",
        weights: Mapping[str, float] | None = None,
        predict: Callable[[Any], Any] = torch.sigmoid,
    ) -> None:
        for name, function in (("loss", loss), ("predict", predict)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function; got {type(function).__name__}.")
        self.loss, self.label, self.predict = loss, label, predict
        self.weights = dict(weights or {})

    def labels(self, batch: Batch) -> Any:
        """Raises KeyError, naming the batch's keys, if the label is not among them."""
        if self.label is None:
            return batch
        if not isinstance(batch, Mapping) or self.label not in batch:
            has = f"has {list(batch)}" if isinstance(batch, Mapping) else f"is a {type(batch).__name__}"
            raise KeyError(f"label={self.label!r} must be a key of each batch; the batch {has}.")
        return batch[self.label]

    def losses(self, outputs: Any, batch: Batch) -> Losses:
        """Raises TypeError or ValueError if the model, or the loss, returns no loss."""
        if self.loss is not None:
            given = self.loss(outputs, self.labels(batch))
        else:
            given = outputs[0] if isinstance(outputs, tuple) and len(outputs) == 2 else outputs
        if not isinstance(given, Mapping):
            if self.weights:
                raise ValueError(
                    f"loss_weights names losses {list(self.weights)}, and there is one loss without a name."
                )
            return Losses(self._mean("the loss", given))
        by_name = {str(name): self._mean(f"loss {name!r}", value) for name, value in given.items()}
        return Losses(self._weighted(by_name), by_name)

    def predictions(self, outputs: Any) -> Any:
        """Without gradients.

        Raises:
          ValueError: the model returns a loss alone.
        """
        if self.loss is not None:
            return self.predict(_detached(outputs))
        if isinstance(outputs, tuple) and len(outputs) == 2:
            return _detached(outputs[1])
        raise ValueError(
            "metrics need predictions, and this model returns a loss alone. Let its forward return a pair (loss, "
            "predictions); or let it return logits, and give the Trainer loss=."
        )

    def _weighted(self, by_name: dict[str, Tensor]) -> Tensor:
        if not by_name:
            raise ValueError("a dict of losses must hold one at least; got {}.")
        foreign = sorted(set(self.weights) - set(by_name))
        if foreign:
            raise ValueError(f"loss_weights must name losses of the model, {list(by_name)}; got {foreign}.")
        parts = [value if (w := self.weights.get(name, 1.0)) == 1 else value * w for name, value in by_name.items()]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()

    def _mean(self, what: str, value: Any) -> Tensor:
        most = 0 if self.loss is None else 1  # dimensions: [B] of a model is more likely to be logits than losses
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() <= most:
            return value.mean() if value.dim() else value
        form = "what the model returns" if self.loss is None else "what loss() gives"
        way_out = " If these are logits, give the Trainer loss=, a function of (logits, labels)." if most == 0 else ""
        raise TypeError(f"{form} must be {OF_LOSS if most else OF_MODEL}; got {_said(value)} for {what}.{way_out}")


def _detached(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.detach()
    if isinstance(outputs, Mapping):
        return {name: _detached(value) for name, value in outputs.items()}
    return type(outputs)(map(_detached, outputs)) if type(outputs) in (list, tuple) else outputs


def _said(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
