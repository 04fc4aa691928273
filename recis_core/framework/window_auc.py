"""The AUC of predictions made while a model trains, which no prediction can end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from recis_core.metrics import AUROC, Gather


class WindowAUC:
    """A metrics.Metric: AUROC; but NaN, with a note of why, where AUROC raises or logs a warning.

    note: why the value computed last is NaN; None where it is none.
    """

    grouped = weighted = False

    def __init__(self) -> None:
        self._auroc, self._refused, self._why = AUROC(), 0, ""
        self.note: str | None = None

    def update(self, predictions: Any, labels: Any, groups: Any = None, weights: Any = None) -> None:
        """Add a batch. One that AUROC refuses, as predictions of NaN, leaves all rows since the last reset without an area."""
        try:
            self._auroc.update(predictions, labels, groups, weights)
        except ValueError as error:
            self._refused, self._why = self._refused + 1, str(error)

    def compute(self) -> float:
        refused = f"{self._refused} batches of other ranks were refused" if self._refused else None
        self.note = self._why or refused or self._auroc.undefined
        return self._auroc.compute() if self.note is None else float("nan")

    def reset(self) -> None:
        self._auroc.reset()
        self._refused, self._why = 0, ""

    def reduce(self, gather: Gather | None = None) -> None:
        if gather is not None:
            self._refused = int(sum(part.sum() for part in gather(torch.tensor([self._refused]))))
        self._auroc.reduce(gather)

    def state_dict(self) -> dict[str, Any]:
        return {"auroc": self._auroc.state_dict(), "refused": self._refused, "why": self._why}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._auroc.load_state_dict(state["auroc"])
        self._refused, self._why = int(state["refused"]), str(state["why"])
