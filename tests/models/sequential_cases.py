"""What tests of SASRec and of HSTU share: batches, training on the planted task, and answers of each sequence alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recis_core.models import history_and_next
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join
from recis_core.ragged import RaggedTensor
from tests.models.planted import IDS, sequences


def batch_of(lengths: list[int], seed: int = 0) -> dict[str, Any]:
    """Random ids and times, and three candidates for all rows."""
    generator, offsets = torch.Generator().manual_seed(seed), torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.randint(0, 50, (sum(lengths),), generator=generator)
    times = torch.randint(0, 10**6, (sum(lengths),), generator=generator)
    timestamps = RaggedTensor(times, offsets)
    return {"history": RaggedTensor(ids, offsets), "timestamps": timestamps, "candidates": torch.tensor([1, 2, 60])}


def alone(batch: dict[str, Any], sequence: int) -> dict[str, Any]:
    """The batch of one of its sequences."""
    offsets = batch["history"].offsets()[0]
    rows = slice(int(offsets[sequence]), int(offsets[sequence + 1]))
    parts = {
        f: RaggedTensor(batch[f].values()[rows], torch.tensor([0, rows.stop - rows.start]))
        for f in ("history", "timestamps")
    }
    return {**parts, "candidates": batch["candidates"]}


def planted_batch(count: int, seed: int) -> tuple[dict[str, Any], Tensor]:
    """Inputs, all items as candidates, and the item that comes next at each row."""
    history, following = history_and_next(sequences(count, seed))
    history.set_values(IDS[history.values()])
    seconds = RaggedTensor(torch.arange(len(history.values())), history.offsets())
    return {"history": history, "timestamps": seconds, "candidates": IDS}, following


def optimizer_of(model: nn.Module, lr: float = 5e-3) -> Any:
    return join(torch.optim.Adam(model.parameters(), lr), SparseAdam(filter_out_sparse_param(model), lr))


def train(model: nn.Module, steps: int, loss_of: Any = None) -> None:
    optimizer = optimizer_of(model)
    for step in range(steps):
        batch, following = planted_batch(32, step)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch), following) if loss_of is None else loss_of(model, batch, following)
        loss.backward()
        optimizer.step()


def accuracy(model: nn.Module) -> float:
    """The share of new sequences' items, from the third on, that get the highest score."""
    batch, following = planted_batch(200, 10**6)
    model.eval()
    with torch.no_grad():
        best = model(batch).argmax(1)
    offsets = batch["history"].offsets()[0]
    second = torch.ones(len(best), dtype=torch.bool)
    second[offsets[:-1]] = False  # one item before it does not say what follows
    return (best == following)[second].float().mean().item()
