"""Admission and eviction where two ranks share the tables: as one process that sees the whole batches.

Scenes are played in one start of the processes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from recis_core.backends.errors import RecisError
from recis_core.optim import SparseAdam
from recis_core.serialize.tables import restore_tables, snapshot_tables
from tests.exchange.models import FEATURES, Model, assert_same_tables, batch, rows_of, share, united
from tests.exchange.stages import Stage

STEPS = 7


def train(rank: int, world: int, evicts: bool = False, **option: Any) -> dict[str, Any]:
    """Rows here after each step, what was evicted, and what is saved."""
    model = Model(backend="numba", **option)
    optimizer = SparseAdam(model.engine.sparse_parameters(), lr=0.05)
    rows, evicted = [], []
    for step in range(STEPS):
        _backward(model, step, rank, world)
        optimizer.step()
        evicted.append(model.engine.evict() if evicts else {})
        rows.append(rows_of(model))
    return {"rows": rows, "evicted": evicted, "saved": snapshot_tables(model.engine.sparse_parameters())}


def _backward(model: Model, step: int, rank: int, world: int) -> None:
    """Of a sum, whose mean over ranks is an equal share of it."""
    data = batch(step, share(rank, world))
    out = model.engine({name: data[name] for name in FEATURES})
    (world * sum(x.square().sum() + x.sum() for x in out.values())).backward()


def admitted(rank: int, world: int) -> dict[str, Any]:
    return train(rank, world, admit_hook="frequency(3)", unknown="initial")


def admitted_by_chance(rank: int, world: int) -> dict[str, Any]:
    return train(rank, world, admit_hook="probability(.3)")


def admitted_columns(rank: int, world: int) -> dict[str, Any]:
    return train(rank, world, admit_hook="frequency(3)", unknown="initial", sharding="column")


def stepped(rank: int, world: int) -> dict[str, Any]:
    return train(rank, world, evicts=True, filter_hook="step(1)", admit_hook="frequency(2)")


def stepped_replicas(rank: int, world: int) -> dict[str, Any]:
    return train(rank, world, evicts=True, filter_hook="step(1)", sharding="replicated")


def small_replicas(rank: int, world: int) -> dict[str, Any]:
    return train(rank, world, evicts=True, filter_hook="norm(.35)", sharding="replicated")


def lru(rank: int, world: int) -> dict[str, Any]:
    return train(rank, world, evicts=True, filter_hook="lru(21)")


def lru_columns(rank: int, world: int) -> dict[str, Any]:
    return train(rank, world, evicts=True, filter_hook="lru(21)", sharding="column")


def too_early(rank: int, world: int) -> str:
    model = Model(filter_hook="step(1)", sharding="replicated")
    _backward(model, 0, rank, world)
    try:
        model.engine.evict()
    except RecisError as error:
        return str(error)
    return "no error"


REFUSED = [
    ({"admit_hook": "frequency(2)", "sharding": "replicated"}, "needs each lookup to reach a row's one owner"),
    ({"admit_hook": "probability(.5)", "sharding": "row+hot(4)"}, "needs each lookup to reach a row's one owner"),
    ({"filter_hook": "step(2)", "sharding": "row+hot(4)"}, "needs each use to reach a row's owner"),
    ({"filter_hook": "ttl(60)", "sharding": "replicated"}, "agree, as they do by step or norm"),
    ({"filter_hook": "norm(.1)", "sharding": "column"}, "agree, as they do by step or lru or lfu"),
]


def refused(rank: int, world: int) -> list[str]:
    said = []
    for option, _ in REFUSED:
        try:
            Model(**option)
            said.append("no error")
        except ValueError as error:
            said.append(str(error))
    return said


SCENES = (
    admitted, admitted_by_chance, admitted_columns, stepped, stepped_replicas, small_replicas, lru, lru_columns,
    too_early, refused,
)  # fmt: skip
STAGE = Stage(*SCENES)


@cache
def alone(scene: Any) -> dict[str, Any]:
    return scene(0, 1)


@pytest.mark.parametrize("scene", [admitted, admitted_by_chance, stepped])
def test_rows_on_their_owners(scene: Any) -> None:
    """Occurrences on all ranks count, and gradients of rejected ids are dropped."""
    ranks, want = STAGE.of(2, scene), alone(scene)
    for step in range(STEPS):
        assert_same_tables(united([r["rows"][step] for r in ranks]), want["rows"][step])
        for name, count in want["evicted"][step].items():
            assert sum(r["evicted"][step][name] for r in ranks) == count
    assert all(any(rows["user"] for rows in r["rows"]) for r in ranks)


def test_some_are_rejected_and_some_go() -> None:
    plain = train(0, 1)["rows"]
    for scene in (admitted, admitted_by_chance, stepped):
        rows = alone(scene)["rows"]
        assert 0 < len(rows[-1]["user"]) < len(plain[-1]["user"])
    assert sum(e["user"] for e in alone(stepped)["evicted"]) > 5


def test_columns() -> None:
    """Every rank admits the same ids, and so does one that has whole rows."""
    for scene, want in ((admitted_columns, admitted), (lru_columns, lru)):
        for rank in STAGE.of(2, scene):
            for mine, whole in zip(rank["rows"], alone(want)["rows"], strict=True):
                assert {n: set(rows) for n, rows in mine.items()} == {n: set(rows) for n, rows in whole.items()}


@pytest.mark.parametrize("scene", [stepped_replicas, small_replicas])
def test_replicas_stay_alike(scene: Any) -> None:
    ranks, want = STAGE.of(2, scene), alone(scene)
    for r in ranks:
        assert r["evicted"] == want["evicted"]
        for mine, theirs in zip(r["rows"], want["rows"], strict=True):
            assert_same_tables(mine, theirs)
    assert sum(e["user"] for e in want["evicted"]) > 5


def test_a_rank_keeps_its_share_of_max_rows() -> None:
    for r in STAGE.of(2, lru):
        assert max(len(rows) for rows in r["rows"][-1].values()) == 11


def test_replicas_evict_between_steps() -> None:
    assert all("after step() or zero_grad()" in said for said in STAGE.of(2, too_early))


def test_what_ranks_would_not_agree_on_is_refused() -> None:
    for said in STAGE.of(2, refused):
        for text, (_, wanted) in zip(said, REFUSED, strict=True):
            assert wanted in text


def test_two_ranks_states_on_one() -> None:
    """Rows and counts of ids without a row, from both: goes on to admit whom one process would."""
    states = {f"{part}.rank-{r}": v for r, s in enumerate(STAGE.of(2, admitted)) for part, v in s["saved"].items()}
    moved, stayed = (Model(backend="numba", admit_hook="frequency(3)") for _ in range(2))
    for model, state in ((moved, states), (stayed, alone(admitted)["saved"])):
        restore_tables(model.engine.sparse_parameters(), state)
        _backward(model, STEPS, 0, 1)
    ids = [{n: set(rows) for n, rows in rows_of(model).items()} for model in (moved, stayed)]
    assert ids[0] == ids[1]
    assert len(ids[0]["user"]) > len(alone(admitted)["rows"][-1]["user"])
