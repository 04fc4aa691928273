"""Where rows live changes nothing of what is learned."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from recis_core.backends.errors import RecisError
from recis_core.exchange import hot_rows
from recis_core.exchange.column_blocks import column_blocks
from recis_core.optim import SparseRowWiseAdagrad
from tests.exchange.models import FEATURES, Model, assert_same_tables, batch, optimizer_of, rows_of, share, united
from tests.exchange.ranks import run_ranks
from tests.exchange.test_worlds import alone, together, train


@pytest.mark.parametrize("world", [2, 3])
def test_a_table_at_one_rank(world: int) -> None:
    ranks = together(world, sharding="table:1")
    assert not any(ranks[0]["rows"].values())
    assert_same_tables(ranks[1]["rows"], alone()["rows"])


@pytest.mark.parametrize("world", [2, 3])
def test_replicated(world: int) -> None:
    want = alone()["rows"]
    for r in together(world, sharding="replicated"):
        assert_same_tables(r["rows"], want)


def hot(rank: int, world: int, steps: int) -> dict[str, Any]:
    hot_rows.FIRST, hot_rows.PERIOD = 2, 3
    return train(rank, world, {"sharding": "row+hot(5)"}, "adam", steps)


@pytest.mark.parametrize("world", [2, 3])
def test_hot_rows(world: int) -> None:
    """Chosen twice within eight steps; rows on every rank are read from copies, and learn alike."""
    want = alone("adam", 8)
    ranks = run_ranks(world, hot, 8)
    assert_same_tables(united([r["rows"] for r in ranks]), want["rows"])


def hot_bytes(rank: int, world: int, sharding: str) -> tuple[dict, list[int]]:
    hot_rows.FIRST, hot_rows.PERIOD = 2, 100
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


def whole_rows(ranks: list[dict[str, Any]]) -> dict[str, dict[int, Any]]:
    """Ranks' columns side by side: rows first, then each slot."""
    out: dict[str, dict[int, Any]] = {}
    for name, rows in ranks[0]["rows"].items():
        assert all(r["rows"][name].keys() == rows.keys() for r in ranks)
        parts = len(KEPT)
        out[name] = {
            i: np.concatenate([np.split(r["rows"][name][i], parts)[part] for part in range(parts) for r in ranks])
            for i in rows
        }
    return out


KEPT = ("weights", "m", "v")  # what Adam keeps a row


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("by", ["worker", "id"])
def test_cut_by_columns(world: int, by: str) -> None:
    want = alone(grad_reduce_by=by)["rows"]
    ranks = run_ranks(world, train, {"sharding": "column", "grad_reduce_by": by})
    assert_same_tables(whole_rows(ranks), want)


def test_columns_with_residuals() -> None:
    """What is kept is kept of whole rows; with fp32 nothing is, and training is as without."""
    want = alone()["rows"]
    assert_same_tables(whole_rows(run_ranks(2, train, {"sharding": "column", "precision": "fp32+ef"})), want)


def rowwise(rank: int, world: int) -> str:
    try:
        SparseRowWiseAdagrad(Model(sharding="column").engine.sparse_parameters())
    except RecisError as error:
        return str(error)
    return "no error"


def test_a_sum_over_columns_is_refused() -> None:
    assert all("SparseRowWiseAdagrad keeps ['sum'] per row" in said for said in run_ranks(2, rowwise))


def test_too_few_columns() -> None:
    with pytest.raises(ValueError, match="at least 5; got 4"):
        column_blocks(4, 3)


@pytest.mark.parametrize(
    ("dim", "world", "want"),
    [(8, 2, [(0, 4), (4, 8)]), (7, 3, [(0, 4), (4, 6), (6, 7)]), (5, 3, [(0, 2), (2, 4), (4, 5)])],
)
def test_blocks(dim: int, world: int, want: list[tuple[int, int]]) -> None:
    assert column_blocks(dim, world) == want


def saved(rank: int, world: int, sharding: str) -> dict[str, Any]:
    """The state of one trained model, as one dict of all ranks' keys would hold it."""
    model = Model(sharding=sharding)
    optimizer = optimizer_of(model)
    for step in range(3):
        out = model(batch(step, share(rank, world)))
        optimizer.zero_grad()
        out.sum().backward()
        optimizer.step()
    return model.engine.state_dict()


@cache
def states_of_two(sharding: str) -> list[dict[str, Any]]:
    return run_ranks(2, saved, sharding)


def loaded(rank: int, world: int, sharding: str, states: list[dict[str, Any]]) -> dict[str, Any]:
    model = Model(sharding=sharding)
    model.engine.load_state_dict({k: v for state in states for k, v in state.items()})
    optimizer_of(model)
    return {"rows": rows_of(model)}


@pytest.mark.parametrize(
    ("before", "after"),
    [("row", "column"), ("column", "row"), ("column", "column"), ("table:1", "row"), ("row", "replicated")],
)
def test_states_move_between_shardings(before: str, after: str) -> None:
    """Saved by 2 ranks, loaded by 1, 2 and 3."""
    states = states_of_two(before)
    alone_again = run_ranks(1, loaded, "row", states)[0]["rows"]
    for world in (2, 3):
        ranks = run_ranks(world, loaded, after, states)
        if after == "column":
            got = whole_rows(ranks)
        elif after == "replicated":
            got = ranks[-1]["rows"]
        else:
            got = united([r["rows"] for r in ranks])
        assert_same_tables(got, alone_again, 0.0)
    assert all(alone_again.values())


def lacks(rank: int, world: int, states: list[dict[str, Any]]) -> str:
    try:
        Model().engine.load_state_dict(states[0])
    except RuntimeError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize("sharding", ["row", "column"])
def test_half_a_state_is_refused(sharding: str) -> None:
    """One rank's keys alone, as a checkpointer would save that takes rank 0's values for all."""
    said = run_ranks(1, lacks, states_of_two(sharding))[0]
    assert "Missing key" in said
    assert "slices.32768-65536" in said or "columns.4-8" in said
