"""What a TrainLoop logs: sums over steps, and their wall time.

Sizes: B rows of a batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recis_core.backends.compiling import compiling_seconds
from recis_core.channel.channel import Channel
from recis_core.exchange.gathering import gathered, summed
from recis_core.metrics import AUROC


@dataclass(frozen=True)
class Logged:
    """What happened since the last log: mean loss and AUC of predictions made before each update.

    auc: NaN where there is none; auc_note then says why.
    rows_per_s: rows of all ranks by seconds of wall time since the last log, reader included.
    compiling: the share of that time in which this rank compiled loops or programs.
    cache: of tables that have one, hit_rate: ids whose row was on the device, as a share; stalled: seconds waited for a
    Prefetcher, as a share of all; and counts, as in CacheStats. Of this rank alone.
    """

    step: int
    loss: float
    auc: float
    rows_per_s: float
    cache: dict[str, float] = field(default_factory=dict)
    auc_note: str | None = None
    compiling: float = 0.0

    def train(self) -> dict[str, float]:
        """What reports and TensorBoard show by step, beside `cache`."""
        return {"loss": self.loss, "auc": self.auc, "rows_per_s": self.rows_per_s}


class WallClock:
    """Time of training in this process up to the end of the last step, time between steps included.

    seconds: wall time. compiling: how much of it this rank compiled loops or programs.
    """

    def __init__(self) -> None:
        self.seconds = self.compiling = 0.0
        self._mark: tuple[float, float] | None = None

    def run(self) -> None:
        """Count from now on, unless the clock runs already."""
        self._mark = _now() if self._mark is None else self._mark

    def read(self) -> None:
        """Bring it up to now."""
        now = _now()
        if self._mark is not None:
            self.seconds += now[0] - self._mark[0]
            self.compiling += now[1] - self._mark[1]
        self._mark = now

    def pause(self) -> None:
        """Leave out the time until run() is called again."""
        self._mark = None


def _now() -> tuple[float, float]:
    return time.perf_counter(), compiling_seconds()


class LogWindow:
    """Sums since the last log, by this clock."""

    def __init__(self, clock: WallClock) -> None:
        self._clock, self._since = clock, (clock.seconds, clock.compiling)
        self.steps = self._rows = self._refused = 0
        self._loss = 0.0
        self._auroc = AUROC()
        self._note: str | None = None

    def add(self, loss: float, logits: Tensor, labels: Tensor) -> None:
        self.steps, self._rows, self._loss = self.steps + 1, self._rows + len(labels), self._loss + loss
        try:
            self._auroc.update(logits.detach().sigmoid(), labels)
        except ValueError as error:
            # Training goes on: the window has no AUC, and the note has the reason.
            self._refused, self._note = self._refused + 1, str(error)

    def logged(self, step: int, cache: dict[str, float], channel: Channel | None = None) -> Logged:
        """What happened on all ranks of a channel. Collective."""
        if channel is not None:
            self._sum_over(channel)
        note = self._note or (f"{self._refused} batches of other ranks were refused" if self._refused else None)
        note = note or self._auroc.undefined
        auc = self._auroc.compute() if note is None else float("nan")
        seconds = max(self._clock.seconds - self._since[0], 1e-9)
        compiling = min(1.0, (self._clock.compiling - self._since[1]) / seconds)
        return Logged(step, self._loss / self.steps, auc, self._rows / seconds, cache, note, compiling)

    def _sum_over(self, channel: Channel) -> None:
        mine = torch.tensor([self._rows, self._loss / channel.size, self._refused], dtype=torch.float64)
        totals = summed(channel, mine, "log")
        self._rows, self._loss, self._refused = int(totals[0]), float(totals[1]), int(totals[2])
        self._auroc.reduce(lambda part: gathered(channel, part, kind="log"))
