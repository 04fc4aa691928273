"""Two ranks draw the same ids, from the rows of both."""

from __future__ import annotations

import pytest
import torch

from tests.exchange.ranks import run_ranks


def draws(rank, world, sharding):
    from recis_core.models import NegativeSampler, all_ids
    from recis_core.nn import EmbeddingEngine, EmbeddingOption
    from recis_core.optim import SparseSGD

    engine = EmbeddingEngine({"item": EmbeddingOption(4, backend="torch", sharding=sharding)})
    sparse, table = SparseSGD(engine.sparse_parameters(), 0.1), engine.table("item")
    sampler = NegativeSampler(table, alpha=1, refresh=1)
    mine = torch.arange(8) if rank == 0 else torch.tensor([8, 9, 9, 9])
    engine({"item": mine})["item"].sum().backward()
    sparse.step()
    sampler.update(mine)
    first = sampler.sample(6000)
    table.erase(torch.arange(9, 10 if rank else 9))
    second = sampler.sample(100)
    errors = []
    try:
        sampler.sample(-1 if rank else 5)
    except Exception as error:
        errors.append(type(error).__name__)
    third = sampler.sample(5)
    state = sampler.state_dict()
    return {
        "ids": torch.cat([first.ids, second.ids, third.ids]).tolist(), "errors": errors,
        "log_q": first.log_q.tolist(), "counts": state["frequency"]["counts"].tolist(), "all": all_ids(table).tolist(),
    }  # fmt: skip


FULL = [pytest.param(sharding, marks=pytest.mark.full) for sharding in ("column", "replicated", "table:1")]


@pytest.mark.parametrize("sharding", ["row", *FULL])
def test_two_ranks(sharding):
    one, other = run_ranks(2, draws, sharding)
    assert one["ids"] == other["ids"]
    assert one["log_q"] == other["log_q"]
    first, second = torch.tensor(one["ids"][:6000]), one["ids"][6000:6100]
    share = torch.tensor([(first == i).double().mean() for i in range(10)])
    torch.testing.assert_close(share, torch.tensor([1 / 12] * 9 + [3 / 12]).double(), atol=0.02, rtol=0)
    nine = torch.tensor(one["log_q"])[first == 9]
    torch.testing.assert_close(nine, torch.full_like(nine, 0.25).log())
    assert set(second) <= set(range(9))
    assert one["counts"] == other["counts"] == [1] * 9 + [3]
    assert one["all"] == other["all"] == list(range(9))
    assert other["errors"] == ["ValueError"]
    assert one["errors"] == ["ExchangeMismatch"]
