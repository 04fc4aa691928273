"""A disk that cannot be used, and an engine that was closed: what is said, and when."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recis_core.backends.errors import RecisError
from recis_core.nn import CacheConfig
from recis_core.table.tiers.cache_stats import CacheStats
from tests.tiers.training import adam, assert_same_engines, cache_in, engine_of, tiers_of
from tests.training.loop import random_batches, train


@pytest.mark.parametrize("below", ["", "deeper/down"])
def test_a_disk_that_is_a_file_is_refused_when_the_engine_is_built(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=r"disk='.*file.*' must be a directory .* the system says: Not a directory"):
        engine_of(cache_in(file / below))


def test_a_directory_is_made_and_nothing_left_there(tmp_path: Path) -> None:
    engine_of(cache_in(tmp_path / "deeper" / "down"))
    assert list((tmp_path / "deeper" / "down").iterdir()) == []


@pytest.mark.parametrize("keep", [False, True])
def test_a_closed_engine_says_so(tmp_path: Path, keep: bool) -> None:
    engine = engine_of(cache_in(tmp_path, 8, 12, keep=keep))
    batches = random_batches(4)
    train(engine, adam(engine), batches)
    engine.close()
    engine.close()
    for ask in (
        lambda: engine(batches[0]),
        lambda: engine.eval()(batches[0]),
        engine.stats,
        engine.state_dict,
        engine.flush,
    ):
        with pytest.raises(RecisError, match=r"the engine was closed.*Call engine.close\(\) last of all"):
            ask()


def test_an_engine_without_a_disk_goes_on_after_a_close() -> None:
    engine = engine_of(CacheConfig(device_rows=8, policy="lru"))
    optimizer, batches = adam(engine), random_batches(4)
    train(engine, optimizer, batches[:2])
    engine.close()
    train(engine, optimizer, batches[2:])
    plain = engine_of()
    train(plain, adam(plain), batches)
    assert_same_engines(engine, plain)


def test_what_stats_tell_is_described(tmp_path: Path) -> None:
    engine = engine_of(cache_in(tmp_path, 8, 12))
    optimizer = adam(engine)
    train(engine, optimizer, random_batches(4))
    told = [name.removeprefix("cache_") for name in engine.table("f").stats() if name.startswith("cache_")]
    words = str(CacheStats.__doc__).replace(",", " ").replace(";", " ").replace(":", " ").split()
    assert {"erased", "disk_bytes", "stall_ms"} < set(told)
    assert [name for name in told if name not in words] == []
    tiers_of(engine).close()


def test_tables_in_one_storage_tell_its_counts_each(tmp_path: Path) -> None:
    engine = engine_of(cache_in(tmp_path), features=("a", "b"))
    engine({"a": torch.arange(5), "b": torch.arange(3)})
    stats = engine.stats()
    assert stats["a"]["cache_new"] == stats["b"]["cache_new"] == 8
