"""A training loop, a loss and batches, for tests that train to see something else.

Sizes: B bags of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from recis_core.framework import TrainLoop
from recis_core.io import SyntheticClicks
from recis_core.nn import EmbeddingEngine
from recis_core.optim import SparseOptimizer

B = 16

Batch = dict[str, Any]
Loss = Callable[[dict[str, Any]], Tensor]


def random_batches(steps: int, ids: int = 400, features: Iterable[str] = "f", seed: int = 0) -> list[Batch]:
    """Skewed ids, B of each feature."""
    random = torch.Generator().manual_seed(seed)
    return [{f: (torch.rand(B, generator=random) ** 2 * ids).long() for f in features} for _ in range(steps)]


def loss_of(out: dict[str, Any]) -> Tensor:
    """Another gradient for every occurrence."""
    values = [v if isinstance(v, Tensor) else v.values() for v in out.values()]
    return torch.stack([(v.square() * torch.linspace(0.5, 1, v.shape[-1])).sum() + v.sum() for v in values]).sum()


def train(
    engine: EmbeddingEngine, optimizer: SparseOptimizer, batches: Iterable[Batch], loss: Loss = loss_of
) -> list[float]:
    """A step a batch; the losses."""
    losses = []
    for batch in batches:
        value = loss(engine(batch))
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def train_on_clicks(loop: TrainLoop, rows: int, start: int, stop: int) -> TrainLoop:
    """Steps start to stop, so many rows each, of one synthetic log."""
    for batch in SyntheticClicks("tiny").dataset(rows, start=rows * start, stop=rows * stop):
        loop.train_step(batch)
    return loop
