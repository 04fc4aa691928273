"""SASRec on two ranks trains as on one: each has half of the histories, and the table's rows are spread."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from recis_core.models import SASRec
from tests.exchange.ranks import run_ranks
from tests.models.planted import IDS
from tests.models.sequential_cases import alone, optimizer_of, planted_batch


def trained(rank: int, world: int) -> list[Any]:
    """Losses of 5 steps and the table's rows. A step's loss is the mean over histories, which are as many on each rank."""
    torch.manual_seed(0)
    model = SASRec(8, layers=1, max_length=12, dropout=0.0, backend="numba", init_std=0.3)
    optimizer, losses = optimizer_of(model, 0.02), []
    for step in range(5):
        loss = torch.stack([of_history(model, step, h) for h in range(rank, 4, world)]).mean()
        optimizer.zero_grad()
        loss.backward()
        total = loss.detach().clone()
        if world > 1:
            for p in model.parameters():
                dist.all_reduce(p.grad)
                p.grad /= world
            dist.all_reduce(total)
        optimizer.step()
        losses.append(float(total) / world)
    rows = model.eval().embeddings.table("item").lookup(IDS)[0]
    return [losses, rows.tolist()]


def of_history(model: SASRec, step: int, history: int) -> torch.Tensor:
    batch, following = planted_batch(4, step)
    return F.cross_entropy(model(alone(batch, history)), following.split(batch["history"].lengths().tolist())[history])


@pytest.mark.full
def test_two_ranks_are_as_one() -> None:
    (one,), (first, second) = run_ranks(1, trained), run_ranks(2, trained)
    assert one[0] == pytest.approx(first[0], rel=1e-5)
    assert first[0] == second[0]
    torch.testing.assert_close(torch.tensor(one[1]), torch.tensor(first[1]), rtol=1e-4, atol=1e-5)
