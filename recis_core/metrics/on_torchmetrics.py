"""Metrics of torchmetrics as ours. torchmetrics takes .8 s to import, so that happens where one is made.

Sizes: N rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from recis_core.metrics.checked import Labels
from recis_core.metrics.streamed import State, Streamed

if TYPE_CHECKING:
    import torchmetrics

MERGED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dim_zero_sum": torch.add,
    "dim_zero_max": torch.maximum,
    "dim_zero_min": torch.minimum,
}
CAT = "dim_zero_cat"
ROWS = "rows"  # beside a metric's own states


class TorchMetric(Streamed):
    """A torchmetrics metric of one number as a Metric: `TorchMetric(torchmetrics.classification.BinaryAveragePrecision())`.

    update gives it predictions in float64, and labels in int64 where all are whole numbers, else in float64; of a retrieval
    metric groups are its `indexes`. Sums are kept in float64, on the CPU. It merges over ranks by each state's own reduction:
    sum, cat, max or min. Its memory is the metric's own: many keep all predictions.

    metric: is copied, without its rows.

    Raises:
      TypeError: it is none of torchmetrics. ValueError: a state of it merges in another way.
    """

    _probabilities = False
    _wanted: Labels = "real"  # type: ignore[misc]  # the metric checks its own

    def __init__(self, metric: torchmetrics.Metric) -> None:
        from torchmetrics import Metric
        from torchmetrics.retrieval.base import RetrievalMetric

        if not isinstance(metric, Metric):
            raise TypeError(f"metric must be one of torchmetrics; got {type(metric).__name__}.")
        self.grouped = isinstance(metric, RetrievalMetric)  # type: ignore[misc]
        self._blank = metric.clone()
        self._blank.reset()
        self._blank.set_dtype(torch.float64)
        self._reductions = {name: _reduction(self._blank, name) for name in metric.metric_state}
        self.reset()

    def __repr__(self) -> str:
        return f"TorchMetric({type(self._blank).__name__})"

    def reset(self) -> None:
        """Drop all rows."""
        self._metric, self._rows = self._blank.clone(), 0

    def _add(self, p: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> None:
        labels = torch.from_numpy(y.astype(np.int64) if (y == np.floor(y)).all() else y)
        if self.grouped:
            self._metric.update(torch.from_numpy(p), labels, indexes=torch.from_numpy(groups))
        else:
            self._metric.update(torch.from_numpy(p), labels)
        self._rows += len(p)

    @property
    def undefined(self) -> str | None:
        """Why the value is undefined, in words; None if it is defined."""
        return None if self._rows else "there are no rows"

    def _value(self) -> float:
        with warnings.catch_warnings():
            # Rows of other ranks or of a state came otherwise than by its own update.
            warnings.filterwarnings("ignore", "The ``compute`` method of metric", UserWarning)
            return float(self._metric.compute())

    def _packed(self) -> State:
        """All states as the bytes of one safetensors: ranks without rows have no list of a known kind."""
        held = {name: _one(value) for name, value in self._metric.metric_state.items()}
        tensors = {name: value.contiguous() for name, value in held.items() if value is not None}
        packed = safetensors.torch.save({**tensors, ROWS: torch.tensor(self._rows)})
        return {"packed": np.frombuffer(packed, np.uint8).copy()}

    def _merge(self, state: State) -> None:
        arrived = safetensors.torch.load(state["packed"].tobytes())
        self._rows += int(arrived.pop(ROWS))
        for name, theirs in arrived.items():
            mine, how = getattr(self._metric, name), self._reductions[name]
            setattr(self._metric, name, [*mine, theirs] if how == CAT else MERGED[how](mine, theirs))


def _reduction(metric: torchmetrics.Metric, name: str) -> str:
    """How a state merges; lists without a word of it are put together, as those of retrieval metrics."""
    how = metric._reductions[name]
    if how is None and isinstance(metric.metric_state[name], list):
        return CAT
    word = getattr(how, "__name__", str(how))
    if word not in (*MERGED, CAT):
        raise ValueError(
            f"{type(metric).__name__} cannot be reduced over ranks: its state {name!r} merges by {word}, where sum, cat, max and "
            "min are known."
        )
    return word


def _one(state: list[Tensor] | Tensor) -> Tensor | None:
    """A state as one tensor; None of an empty list."""
    if isinstance(state, Tensor):
        return state
    return torch.cat([part.reshape(-1) if part.dim() == 0 else part for part in state]) if state else None


class RMSE(TorchMetric):
    """Root of the mean squared difference of predictions and labels, both any real numbers: torchmetrics'
    MeanSquaredError(squared=False), with its sum in float64. NaN without rows. Memory: two numbers."""

    def __init__(self) -> None:
        from torchmetrics import MeanSquaredError

        super().__init__(MeanSquaredError(squared=False))

    def __repr__(self) -> str:
        return "RMSE()"
