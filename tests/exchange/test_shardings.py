"""Where rows live changes nothing of what is learned."""

from __future__ import annotations

from typing import Any

import pytest

from recis_core.exchange import hot_rows
from tests.exchange.models import FEATURES, Model, assert_same_tables, united
from tests.exchange.ranks import run_ranks
from tests.exchange.test_worlds import alone, train


@pytest.mark.parametrize("world", [2, 3])
def test_a_table_at_one_rank(world: int) -> None:
    ranks = run_ranks(world, train, {"sharding": "table:1"})
    assert not any(ranks[0]["rows"].values())
    assert_same_tables(ranks[1]["rows"], alone()["rows"])


@pytest.mark.parametrize("world", [2, 3])
def test_replicated(world: int) -> None:
    want = alone()["rows"]
    for r in run_ranks(world, train, {"sharding": "replicated"}):
        assert_same_tables(r["rows"], want)


def hot(rank: int, world: int, steps: int) -> dict[str, Any]:
    hot_rows.FIRST, hot_rows.PERIOD = 2, 3
    return train(rank, world, {"sharding": "row+hot(5)"}, "adam", steps)


@pytest.mark.parametrize("world", [2, 3])
def test_hot_rows(world: int) -> None:
    """Chosen twice within eight steps; rows on every rank are read from copies, and learn alike."""
    want = run_ranks(1, train, {}, "adam", 8)[0]
    ranks = run_ranks(world, hot, 8)
    assert_same_tables(united([r["rows"] for r in ranks]), want["rows"])


def hot_bytes(rank: int, world: int, sharding: str) -> tuple[dict, list[int]]:
    hot_rows.FIRST, hot_rows.PERIOD = 2, 100
    from tests.exchange.models import batch, optimizer_of, share

    model = Model(sharding=sharding)
    optimizer = optimizer_of(model)
    for step in range(6):
        out = model(batch(step, share(rank, world)))
        optimizer.zero_grad()
        out.sum().backward()
        optimizer.step()
    table = model.engine.table("user").physical
    ids = [] if table.hot is None else table.hot.ids.tolist()
    return model.engine.exchange.stats(), ids


def test_hot_rows_are_the_most_used_and_are_not_asked_for() -> None:
    plain, with_hot = (run_ranks(2, hot_bytes, s) for s in ("row", "row+hot(4)"))
    assert with_hot[0][1] == with_hot[1][1]
    assert len(with_hot[0][1]) == 4 * (len(FEATURES) - 1)  # of each of three tables
    assert (2**55 + 12345) in with_hot[0][1]  # value 1 of a Zipf law
    for before, after in zip(plain, with_hot, strict=True):
        assert after[0]["ids"] <= before[0]["ids"]  # frames of 128 take what their widest difference takes
        assert after[0]["rows"] < before[0]["rows"]
        assert after[0]["hot rows"] > 0
