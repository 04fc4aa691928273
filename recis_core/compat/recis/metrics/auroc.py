"""RecIS's AUROC: a module that counts at fixed thresholds.

Sizes: K thresholds, N predictions.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

ROUNDING = 1e-7  # the outer thresholds lie so far outside of [0, 1]
SMALL = 1e-6
CHUNK = 65_536  # predictions compared with all thresholds at a time


class AUROC(nn.Module):
    """Area under the ROC curve by K thresholds, as tf.keras.metrics.AUC; see recis_core.metrics.AUROC for an exact one.

    tp, fp, tn, fn are int64 parameters without gradient, so that state dicts hold them.

    Args:
      dist_sync_on_step: `update` adds the counts of all ranks; collective.

    Raises:
      ValueError: num_thresholds is 2 or less.

    As recis.metrics.auroc.AUROC.
    """

    def __init__(self, num_thresholds: int = 200, dist_sync_on_step: bool = False) -> None:
        super().__init__()
        if num_thresholds <= 2:
            raise ValueError(f"num_thresholds must be above 2; got {num_thresholds}.")
        self.num_thresholds, self.dist_sync_on_step = num_thresholds, dist_sync_on_step
        inner = [i / (num_thresholds - 1) for i in range(1, num_thresholds - 1)]
        self.thresholds = torch.tensor([-ROUNDING, *inner, 1 + ROUNDING])
        zeros = torch.zeros(num_thresholds, dtype=torch.long)
        self.tp = nn.Parameter(zeros.clone(), requires_grad=False)
        self.fp = nn.Parameter(zeros.clone(), requires_grad=False)
        self.tn = nn.Parameter(zeros.clone(), requires_grad=False)
        self.fn = nn.Parameter(zeros, requires_grad=False)

    def forward(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """The area of these alone, a 0-d tensor; changes no count.

        Raises:
          ValueError: a prediction is outside of [0, 1], or labels are not as many.
        """
        return self._area(*self._counts(predictions, labels))

    @torch.no_grad()
    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Add predictions and labels of any shape, flattened. Raises as forward."""
        mine = self._counts(predictions, labels)
        counts = self.sync(*mine) if self.dist_sync_on_step else mine
        for total, count in zip((self.tp, self.fp, self.tn, self.fn), counts, strict=True):
            total.add_(count.to(total.device))

    def sync(self, tp: Tensor, fp: Tensor, tn: Tensor, fn: Tensor) -> tuple[Tensor, ...]:
        """The sums of all ranks' counts; without a process group the counts."""
        counts = torch.cat([tp, fp, tn, fn])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(counts)
        return counts.split(self.num_thresholds)

    def compute(self) -> Tensor:
        """The area of all updates since the last reset, a 0-d tensor."""
        return self._area(self.tp, self.fp, self.tn, self.fn)

    @torch.no_grad()
    def reset(self) -> None:
        for total in (self.tp, self.fp, self.tn, self.fn):
            total.zero_()

    @torch.no_grad()
    def _counts(self, predictions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p, y = predictions.detach().reshape(-1), labels.to(torch.bool).reshape(-1)
        if len(p) != len(y):
            raise ValueError(f"labels must be as many as predictions, {len(p)}; got {len(y)}.")
        if not bool(((p >= 0) & (p <= 1)).all()):
            raise ValueError("predictions must be in [0, 1]; got one outside, or NaN.")
        self.thresholds = self.thresholds.to(p.device)
        positives, negatives = self._above(p[y]), self._above(p[~y])
        there, others = int(y.sum()), int((~y).sum())
        return positives, negatives, others - negatives, there - positives

    def _above(self, predictions: Tensor) -> Tensor:
        """How many are above each threshold, int64 [K]."""
        parts = predictions.split(CHUNK)
        return sum(
            ((part[:, None] > self.thresholds).sum(0) for part in parts),
            torch.zeros(self.num_thresholds, dtype=torch.long, device=predictions.device),
        )

    @staticmethod
    def _area(tp: Tensor, fp: Tensor, tn: Tensor, fn: Tensor) -> Tensor:
        hits = (tp + SMALL) / (tp + fn + SMALL)
        false_alarms = fp / (fp + tn + SMALL)
        return ((false_alarms[:-1] - false_alarms[1:]) * (hits[:-1] + hits[1:]) / 2).sum()
