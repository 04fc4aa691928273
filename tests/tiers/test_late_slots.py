"""An optimizer that is made when a table has rows already: they get its slots, or all is as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from recis_core.backends.errors import RecisError, TableFull
from recis_core.nn import CacheConfig, EmbeddingEngine
from recis_core.table.tiers.host_store import HostStore
from tests.tiers.training import adam, assert_same_engines, cache_in, engine_of, tiers_of
from tests.training.loop import random_batches, train

BATCHES = random_batches(8, 200)


def seen(cache: CacheConfig | None, backend: str = "numba") -> EmbeddingEngine:
    """Rows that no optimizer knows."""
    engine = engine_of(cache, backend=backend)
    for batch in BATCHES:
        engine(batch)
    return engine


def same_after_training(tiered: EmbeddingEngine, plain: EmbeddingEngine) -> bool:
    losses = [train(engine, adam(engine), BATCHES) for engine in (tiered, plain)]
    assert_same_engines(tiered, plain)
    return losses[0] == losses[1]


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_rows_in_every_tier_get_slots(backend: str, tmp_path: Path) -> None:
    tiered, plain = seen(cache_in(tmp_path, 16, 20), backend), seen(None, backend)
    assert same_after_training(tiered, plain)
    assert list(tmp_path.iterdir()) == []  # scratch has no names
    counts = [engine.table("f").stats() for engine in (tiered, plain)]
    assert counts[0]["rows"] == counts[1]["rows"]


def test_wider_rows_that_cannot_be_written_leave_those_that_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiered, plain = seen(cache_in(tmp_path, 16, 20)), seen(None)
    with monkeypatch.context() as patched:
        patched.setattr(HostStore, "write_at", fails)
        with pytest.raises(MemoryError):
            adam(tiered)
    assert tiered.table("f").physical.optimizer is None
    assert tiers_of(tiered).slots == ()
    assert list(tmp_path.iterdir()) == []  # scratch has no names
    assert_same_engines(tiered, plain)
    assert same_after_training(tiered, plain)


def fails(*_: object) -> None:
    raise MemoryError


def test_host_memory_that_is_too_small_for_wider_rows_says_so_and_keeps_them() -> None:
    tiered, plain = seen(CacheConfig(device_rows=16, host_bytes=7_500)), seen(None)
    with pytest.raises(TableFull, match="host"):
        adam(tiered)
    assert tiered.table("f").physical.optimizer is None
    assert_same_engines(tiered, plain)


def test_rows_of_a_kept_disk_need_the_optimizer_before(tmp_path: Path) -> None:
    tiered, plain = seen(cache_in(tmp_path, 16, 20, keep=True)), seen(None)
    with pytest.raises(RecisError, match=r"opened without m, v.*before the engine's first call"):
        adam(tiered)
    assert_same_engines(tiered, plain)
