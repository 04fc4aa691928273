"""Tables in tiers that two ranks share: each rank's own tiers below its own rows, and the bits of a run without.

Scenes are played in one start of the processes.
"""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import torch

from recis_core.backends.errors import RecisError
from recis_core.nn import CacheConfig, Prefetcher
from recis_core.optim import SparseAdam
from recis_core.serialize.tables import snapshot_tables
from tests.exchange.models import FEATURES, Model, batch, share
from tests.exchange.stages import Stage

STEPS = 8
OPTIONS: dict[str, dict[str, Any]] = {
    "exact": {},
    "error_feedback": {"precision": "forward=int8+ef,backward=int8+ef"},
}


def _train(rank: int, world: int, cache: CacheConfig | None, **option: Any) -> dict[str, Any]:
    model = Model(backend="numba", cache=cache, **option)
    optimizer = SparseAdam(model.engine.sparse_parameters(), lr=0.05)
    for step in range(STEPS):
        data = batch(step, share(rank, world))
        out = model.engine({name: data[name] for name in FEATURES})
        (world * sum(x.square().sum() + x.sum() for x in out.values())).backward()
        optimizer.step()
    tables = model.engine.sparse_parameters()
    away = [t.physical.storage.tiers.stats.counts["written_to_disk"] for t in tables.values()] if cache else []  # type: ignore[union-attr]
    return {"saved": snapshot_tables(tables), "away": sum(away)}


def _both(rank: int, world: int, **option: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        cache = CacheConfig(device_rows=6, host_rows=4, disk=folder, policy="lru")
        return _train(rank, world, cache, **option), _train(rank, world, None, **option)


def exact(rank: int, world: int) -> Any:
    return _both(rank, world, **OPTIONS["exact"])


def error_feedback(rank: int, world: int) -> Any:
    return _both(rank, world, **OPTIONS["error_feedback"])


def ahead(rank: int, world: int) -> str:
    model = Model(backend="numba", cache=CacheConfig(device_rows=6))
    try:
        Prefetcher(model.engine, [], 2)
    except RecisError as error:
        return str(error)
    return "no error"


def kept(rank: int, world: int) -> list[int]:
    """Steps of a table whose ranks were flushed at different ones, and a step later."""
    with tempfile.TemporaryDirectory() as folder:
        cache, found = CacheConfig(device_rows=6, host_rows=4, disk=folder, keep=True), []
        for steps in (2 + rank, 1):
            model = Model(backend="numba", cache=cache)
            optimizer = SparseAdam(model.engine.sparse_parameters(), lr=0.05)
            tables = [table.physical for table in model.engine.sparse_parameters().values()]
            found.append(tables[0].step)
            for step in range(STEPS if steps > 1 else 1):
                data = batch(step, share(rank, world))
                out = model.engine({name: data[name] for name in FEATURES})
                sum(x.square().sum() for x in out.values()).backward()
                optimizer.step()
                if step == steps:
                    model.engine.flush()
            found.append(tables[0].step)
            for table in tables:
                table.storage.tiers.close()  # type: ignore[union-attr]
    return found


STAGE = Stage(exact, error_feedback, ahead, kept)


def test_ranks_whose_disks_are_of_different_flushes() -> None:
    assert STAGE.of(2, kept) == [[0, STEPS, 3, 5], [0, STEPS, 4, 5]]


@pytest.mark.parametrize("scene", [exact, error_feedback])
def test_the_same_bits_as_without_tiers(scene: Any) -> None:
    for got, want in STAGE.of(2, scene):
        assert got["away"] > 0
        assert got["saved"].keys() == want["saved"].keys()
        for part, saved in want["saved"].items():
            mine, theirs = got["saved"][part]["snapshot"], saved["snapshot"]
            assert torch.equal(mine["ids"], theirs["ids"])
            assert torch.equal(mine["weights"], theirs["weights"])
            assert mine["slots"].keys() == theirs["slots"].keys()
            assert all(torch.equal(mine["slots"][name], theirs["slots"][name]) for name in theirs["slots"])


def test_a_prefetcher_says_that_it_serves_one_process() -> None:
    assert all("Use depth=0 with more processes than one" in said for said in STAGE.of(2, ahead))
