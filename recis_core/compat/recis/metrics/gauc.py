"""RecIS's GAUC: mean AUC over runs of equal indicators.

Sizes: N predictions.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, distributed, nn


class Gauc(nn.Module):
    """Mean of the AUC of each run of equal indicators, weighted by the run's length, over this batch and over all.

    The first and the last run of a batch are left out, for they may go on in other batches; and runs of one class. Ties
    count as they fall in a stable sort by prediction. recis_core.metrics has one that needs no runs.

    As recis.metrics.gauc.Gauc.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self._counts, self._aucs = 0.0, 0.0

    @torch.no_grad()
    def forward(self, labels: Tensor, predictions: Tensor, indicators: Tensor) -> tuple[float, float]:
        """(of this batch, of all batches since reset), over all ranks where there is a process group.

        Args:
          labels: [N] of 0 and 1, or [N, 2] with the click in column 1; predictions alike.
          indicators: integers [N].

        Raises:
          ValueError: shapes do not fit.
        """
        if indicators.dim() != 1 or labels.shape != predictions.shape or len(labels) != len(indicators):
            shapes = f"{tuple(labels.shape)}, {tuple(predictions.shape)} and {tuple(indicators.shape)}"
            raise ValueError(f"labels and predictions must be [N] or [N, 2], indicators [N]; got {shapes}.")
        sums = torch.zeros(2, dtype=torch.float64)
        for area, length in _runs(labels.cpu().double(), predictions.cpu(), indicators.cpu()):
            sums += torch.tensor([area * length, length], dtype=torch.float64)
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            sums = sums.to(labels.device)
            distributed.all_reduce(sums)
        areas, count = sums.tolist()
        self._aucs, self._counts = self._aucs + areas, self._counts + count
        return areas / max(count, 1.0), self._aucs / max(self._counts, 1.0)


def _runs(labels: Tensor, predictions: Tensor, indicators: Tensor) -> list[tuple[float, int]]:
    """(AUC, length) of each inner run with both classes."""
    ends = torch.cat([(indicators[1:] != indicators[:-1]).nonzero()[:, 0] + 1, torch.tensor([len(indicators)])])
    bounds = ends.tolist()[:-1]  # the last run ends with the batch
    found = [(_area(labels[a:b], predictions[a:b]), b - a) for a, b in pairwise(bounds)]
    return [(area, length) for area, length in found if area is not None]


def _area(labels: Tensor, predictions: Tensor) -> float | None:
    """1 − the area under the curve of rising predictions; None for one class."""
    click, score = (labels, predictions) if labels.dim() == 1 else (labels[:, 1], predictions[:, 1])
    click = click[score.argsort(stable=True)]
    other = 1 - click if labels.dim() == 1 else labels[:, 0][score.argsort(stable=True)]
    hits, misses = click.cumsum(0), other.cumsum(0)
    if float(hits[-1]) * float(misses[-1]) == 0:
        return None
    before = torch.cat([hits.new_zeros(1), hits[:-1]])
    area = (other * (hits + before)).sum()
    return 1 - float(area) / (2 * float(hits[-1]) * float(misses[-1]))
