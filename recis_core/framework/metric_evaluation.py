"""A model's loss and metrics on data, without training it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from recis_core.framework.micro_batches import MicroBatches, Reading
from recis_core.framework.named_metrics import Metrics, NamedMetrics
from recis_core.framework.objective import Losses, Objective
from recis_core.framework.ranks import Ranks
from recis_core.plain_torch import without_gradients


def evaluate_metrics(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    metrics: Metrics | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    label: str | None = "label",
    predict: Callable[[Any], Any] = torch.sigmoid,
    loss_weights: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """{"loss": mean over rows, name of a loss: its mean, name of a metric: its value} on these batches, in eval mode.

    Unknown ids are not inserted, and modules keep their modes. Collective where ranks share the model's tables; each gives
    its own batches, as few as none, and gets the values of all rows. Arguments are a Trainer's.

    Raises:
      ValueError: there is no row; or metrics are asked of a model that returns a loss alone.
    """
    ranks, objective = Ranks(model), Objective(loss, label=label, weights=loss_weights, predict=predict)
    named = NamedMetrics(metrics or {}, objective.labels)
    return Evaluator(model, objective, named, ranks).on(Reading(iter(batches), 1, ranks)) or {}


class Evaluator:
    """autocast: the context in which the model runs."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        metrics: NamedMetrics,
        ranks: Ranks,
        *,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._model, self._objective, self._metrics, self._ranks = model, objective, metrics, ranks
        self._autocast = autocast

    @without_gradients
    def on(self, reading: Reading, ended: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """None where ended(), asked before each batch and alike on all ranks, is true. Collective.

        Raises:
          ValueError: there is no row.
        """
        sums: dict[str, float] = {}
        rows = 0
        self._metrics.reset()
        with in_eval_mode(self._model):
            while (group := reading.next()) is not None:
                if ended():
                    return None
                rows += group.total
                for name, value in self._of(group).items():
                    sums[name] = sums.get(name, 0.0) + value
        if not rows:
            raise ValueError("there is no row to evaluate on; give other evaluation data, or leave the evaluation out.")
        everyone = self._ranks.summed(torch.tensor(list(sums.values()), dtype=torch.float64), "evaluate")
        means = {name: float(total) / rows for name, total in zip(sums, everyone, strict=True)}
        return means | self._metrics.computed(self._ranks)

    def _of(self, group: MicroBatches) -> dict[str, float]:
        """Sums over the rows of a batch here: of the loss, and of each loss by name."""
        (batch,), (rows,) = group.batches, group.rows
        with self._autocast():
            outputs = self._model(batch)
            losses = self._objective.losses(outputs, batch)
        if rows and self._metrics:
            self._metrics.update(self._objective.predictions(outputs), batch)
        return {name: value * rows if rows else 0.0 for name, value in _values(losses).items()}


def _values(losses: Losses) -> dict[str, float]:
    return {"loss": float(losses.total), **{name: float(value) for name, value in losses.by_name.items()}}


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Afterwards each module has the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
