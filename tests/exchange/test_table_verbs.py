"""len, in, lookup, erase and items of tables that ranks share: as of one table, on every rank alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recis_core.backends.errors import ExchangeMismatch
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption, UniformInitializer
from recis_core.optim import SparseAdam, SparseSGD
from tests.exchange.ranks import run_ranks

SHARDINGS = ("row", "table:1", "column", "replicated", "row+hot(4)")
OURS, THEIRS = range(12), range(8, 20)  # ids of rank 0, and of rank 1
KNOWN = len({*OURS, *THEIRS})


def engine_of(sharding: str, **option: Any) -> EmbeddingEngine:
    option = {"initializer": UniformInitializer(-1, 1), "sharding": sharding, "unknown": "initial"} | option
    return EmbeddingEngine({name: EmbeddingOption(6, **option) for name in ("a", "b")})


def batch(rank: int) -> dict[str, torch.Tensor]:
    return {"a": torch.tensor([*(OURS, THEIRS)[rank]]), "b": torch.arange(3) + rank}


def step(engine: EmbeddingEngine, optimizer: Any, rank: int) -> None:
    sum(out.square().sum() for out in engine(batch(rank)).values()).backward()
    optimizer.step()
    optimizer.zero_grad()


def of_one(rank: int, world: int, sharding: str, precision: str) -> dict[str, Any]:
    """What the verbs say, and what the same rows are in a forward that asks every rank's owner."""
    engine = engine_of(sharding, precision=precision)
    optimizer, table = SparseAdam(engine.sparse_parameters(), lr=0.1), engine.table("a")
    step(engine, optimizer, rank)
    before = table.stats()
    vectors, found = table.lookup(torch.tensor([[5, 15, 99], [5, 8, 0]]))
    mine, here = table.lookup([5, 6, 7] if rank else [])
    seen = {
        "len": (len(table), len(engine.table("b"))), "in": (3 in table, 18 in table, 50 in table),
        "vectors": vectors, "found": found.tolist(), "apart": (len(mine), here.tolist()), "counted": table.stats() == before,
    }  # fmt: skip
    engine.eval()
    seen["forward"] = table(torch.tensor([[5, 15, 99], [5, 8, 0]])).detach()
    engine.train()
    seen["items"] = {int(i): v for ids, vectors in table.items(4) for i, v in zip(ids, vectors, strict=True)}
    sum(out.sum() for out in engine(batch(rank)).values()).backward()  # what waits goes with its rows
    seen["erased"] = table.erase([5, 15, 99, 5] if rank == 0 else [6])
    seen["again"] = table.erase([5, 15, 99]), len(table), 5 in table
    optimizer.step()
    seen["after"] = len(table), 5 in table, 6 in table
    fresh = table.lookup([5, 15])[0]
    step(engine, optimizer, rank)
    seen["back"] = len(table), 5 in table
    seen["begins"] = fresh
    return seen


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_one_table(sharding: str) -> None:
    ranks = run_ranks(2, of_one, sharding, "fp32")
    alone = run_ranks(1, of_one, "row", "fp32")[0]
    for seen in ranks:
        assert seen["len"] == (KNOWN, 4)
        assert seen["in"] == (True, True, False)
        assert seen["found"] == [[True, True, False], [True, True, True]]
        assert torch.equal(seen["vectors"], ranks[0]["vectors"])
        assert torch.equal(seen["vectors"], seen["forward"])
        assert torch.equal(seen["vectors"][0, 2], alone["vectors"][0, 2])  # unknown: the initial value
        assert seen["counted"]
        assert seen["erased"] == 3
        assert seen["again"] == (0, KNOWN - 3, False)
        assert seen["after"] == (KNOWN - 3, False, False)
        assert torch.equal(seen["begins"], alone["begins"])
        assert seen["back"] == (KNOWN, True)
    assert [seen["apart"] for seen in ranks] == [(0, []), (3, [True] * 3)]
    rows = [seen["items"] for seen in ranks]
    if sharding in ("row", "table:1", "row+hot(4)"):
        assert not rows[0].keys() & rows[1].keys()
        united = rows[0] | rows[1]
    elif sharding == "column":
        united = {i: torch.cat([rows[0][i], rows[1][i]]) for i in rows[0]}
    else:
        united = rows[1]
        assert rows[0].keys() == rows[1].keys()
    assert len(united) == KNOWN
    assert torch.equal(united[5], ranks[0]["vectors"][0, 0])


def test_lookups_are_exact_whatever_travels_in_training() -> None:
    ranks = run_ranks(2, of_one, "row", "int4")
    items = ranks[0]["items"] | ranks[1]["items"]
    assert torch.equal(ranks[0]["vectors"][0, 1], items[15])
    assert not torch.equal(ranks[0]["vectors"][0, 1], ranks[0]["forward"][0, 1])


def in_tiers(rank: int, world: int, folder: str) -> Any:
    cache = CacheConfig(device_rows=6, host_rows=4, disk=folder, policy="lru")
    engine = engine_of("row", cache=cache)
    optimizer, table = SparseSGD(engine.sparse_parameters(), lr=0.1), engine.table("a")
    for _ in range(3):
        step(engine, optimizer, rank)
    found = table.lookup(torch.arange(30))[1]
    return len(table), found.tolist(), table.erase([0, 1, 19, 40]), len(table), table.stats()["rows"]


def test_in_tiers(tmp_path: Any) -> None:
    ranks = run_ranks(2, in_tiers, str(tmp_path))
    for seen in ranks:
        assert seen[:4] == (KNOWN, [True] * KNOWN + [False] * 10, 3, KNOWN - 3)
    assert sum(seen[4] for seen in ranks) == KNOWN - 3


def replicas_apart(rank: int, world: int) -> Any:
    """Rows that no gradient has touched are on the rank that asked for them alone."""
    engine = engine_of("replicated")
    engine(batch(rank))
    table = engine.table("a")
    vectors, found = table.lookup([0, 19, 30])
    return table.stats()["rows"], len(table), found.tolist(), vectors, table.erase([0, 19]), len(table)


def test_replicas_that_are_apart() -> None:
    ranks = run_ranks(2, replicas_apart)
    for seen in ranks:
        assert (seen[0], seen[1], seen[2], *seen[4:]) == (12, KNOWN, [True, True, False], 2, KNOWN - 2)
    assert torch.equal(ranks[0][3], ranks[1][3])


def alone_in(rank: int, world: int) -> list[str]:
    engine, told = engine_of("row"), []
    table, optimizer = engine.table("a"), SparseSGD(engine.sparse_parameters(), lr=0.1)
    step(engine, optimizer, rank)
    calls = {
        "len": lambda: len(table), "in": lambda: 3 in table, "lookup": lambda: table.lookup([3]),
        "erase": lambda: table.erase([3]), "another table": lambda: len(engine.table("b")),
    }  # fmt: skip
    for name, call in calls.items():
        with pytest.raises(ExchangeMismatch) as error:
            call() if rank == 0 else (engine(batch(rank)) if name != "another table" else len(table))
        told.append(str(error.value))
        assert len(table) == KNOWN
    for wrong in (["x"], [2.5], [2**64], torch.tensor([1.0])):
        kind = ExchangeMismatch if rank else (TypeError, ValueError)
        for call in (table.lookup, table.erase):
            with pytest.raises(kind):
                call(wrong if rank == 0 else [1])
    with pytest.raises(ExchangeMismatch if rank else TypeError):
        ("x" if rank == 0 else 3) in table  # noqa: B015
    told.append(str(len(table)))
    return told


def test_a_rank_alone_is_told() -> None:
    ranks = run_ranks(2, alone_in)
    for told in ranks:
        assert "rank 0 in len() of a table" in told[0]
        assert "rank 1 in a training forward" in told[0]
        assert "rank 0 in lookup() of a table, or `in` it" in told[1]
        assert "rank 0 in erase() of a table" in told[3]
        assert "different tables" in told[4]
        assert told[5] == str(KNOWN)
