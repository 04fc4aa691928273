"""Checkpoints of two ranks: the same bits on two, the same rows on one and on three; one rank's failure is every rank's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recis_core.errors import ExchangeMismatch
from recis_core.serialize import open_checkpoint
from recis_core.serialize.checkpoint import shot
from tests.exchange.models import assert_same_tables, rows_of, united
from tests.exchange.ranks import run_ranks
from tests.serialize.checkpoint.runs import Run
from tests.serialize.states import FULL

OPTIONS: dict[str, dict[str, Any]] = {
    "lossy": {"precision": "forward=int8+ef,backward=int4+sr+ef"},
    "column": {"sharding": "column"},
    "fp32": {},
    "replicated": {"sharding": "replicated"},
}
TRIED = list(OPTIONS) if FULL else list(OPTIONS)[:2]
Report = dict[str, Any]


def both(rank: int, world: int, folder: str) -> dict[str, Any]:
    saved = {name: saving(rank, world, f"{folder}/{name}", OPTIONS[name]) for name in TRIED}
    return {
        "saved": saved,
        "resumed": resuming(rank, world, folder),
        "failed": failing(rank, world, f"{folder}/failed"),
    }


def saving(rank: int, world: int, folder: str, option: dict[str, Any]) -> Report:
    run = Run(rank, world, **option)
    manager = run.manager(folder)
    run.step(range(4))
    manager.save(4, {"auc": 0.25})
    rows = rows_of(run.model)
    run.step(range(4, 6))
    manager.close()
    return {"rows": rows, "losses": run.losses[4:], "state": run.state(), "latest": manager.latest()}


def resuming(rank: int, world: int, folder: str) -> dict[str, Report]:
    found = {}
    for name in TRIED:
        run = Run(rank, world, seed=6, **OPTIONS[name])
        left_out = [] if world == 2 else ["data"]  # a reader of this kind knows no other worlds
        restored = run.manager(f"{folder}/{name}").restore(exclude=left_out)
        rows = rows_of(run.model)
        run.step(range(4, 6))
        found[name] = {"rows": rows, "losses": run.losses, "state": run.state(), "restored": restored.step}
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, dict[str, Report]]]:
    return run_ranks(2, both, str(folder))


@pytest.fixture(scope="module")
def saved(ranks: Any) -> list[dict[str, Report]]:
    return [rank["saved"] for rank in ranks]


@pytest.fixture(scope="module")
def alone(folder: Path, saved: Any) -> dict[str, Report]:
    return resuming(0, 1, str(folder))


@pytest.mark.parametrize("name", TRIED)
def test_two_ranks_go_on_with_the_same_bits(ranks: Any, name: str) -> None:
    for rank in ranks:
        before, after = rank["saved"][name], rank["resumed"][name]
        assert (before["latest"], after["restored"]) == (4, 4)
        assert after["losses"] == before["losses"]
        assert after["state"] == before["state"]


@pytest.mark.parametrize("name", TRIED)
def test_one_rank_has_the_same_rows(saved: Any, alone: Any, name: str) -> None:
    assert_same_tables(alone[name]["rows"], whole(saved, name), rtol=1e-7)


@pytest.mark.full
def test_three_ranks_have_the_same_rows(folder: Path, saved: Any) -> None:
    three = run_ranks(3, resuming, str(folder))
    for name in set(TRIED) & {"lossy", "fp32"}:
        assert_same_tables(united([each[name]["rows"] for each in three]), whole(saved, name), rtol=1e-7)


def whole(saved: Any, name: str) -> dict[str, dict[int, np.ndarray]]:
    """What one rank would have."""
    if name in ("fp32", "lossy"):
        return united([each[name]["rows"] for each in saved])
    one, two = (each[name]["rows"] for each in saved)
    if name == "replicated":
        return {table: two[table] | rows for table, rows in one.items()}
    dim = 4  # of a block: weights, and two slots as wide
    return {
        table: {
            i: np.concatenate([np.stack([row.reshape(-1, dim), two[table][i].reshape(-1, dim)], 1)]).ravel()
            for i, row in rows.items()
        }
        for table, rows in one.items()
    }


def test_it_is_read_without_ranks(folder: Path, saved: Any) -> None:
    for name in TRIED:
        found = open_checkpoint(folder / name)
        found.verify()
        for table, rows in whole(saved, name).items():
            got = {int(i): row.numpy() for b in found.blocks(table) for i, row in zip(b.ids, b.rows, strict=True)}
            assert got.keys() == rows.keys()
            assert all(np.array_equal(got[i], rows[i][: len(got[i])]) for i in rows)
        assert found.environment["world"] == 2
        assert {"random.rank-0", "random.rank-1", "data.rank-1"} <= set(found.parts)


def failing(rank: int, world: int, folder: str) -> list[str]:
    run, said = Run(rank, world), []
    manager = run.manager(folder)
    run.step([0])
    manager.save(1)
    manager.wait()
    write = shot.Shot.write
    if rank == 1:
        shot.Shot.write = lambda *args: (_ for _ in ()).throw(OSError(28, os.strerror(28)))
    manager.save(2)
    try:
        manager.save(3)
        manager.wait()
    except (OSError, ExchangeMismatch) as error:
        said.append(type(error).__name__)
    shot.Shot.write = write
    run.step([1])
    manager.save(4)
    manager.close()
    return [*said, *map(str, manager.steps())]


def test_one_ranks_failure_is_every_ranks(folder: Path, ranks: Any) -> None:
    first, second = (rank["failed"] for rank in ranks)
    assert (first[0], second[0]) == ("ExchangeMismatch", "OSError")
    assert first[1:] == second[1:]
    assert first[-1] == "4"
    open_checkpoint(folder / "failed").verify()
