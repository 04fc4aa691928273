"""A table whose disk is full: a step says so before it changes anything; freed, training goes on to the same bits."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from recis_core.backends.errors import StorageFull, TableFull
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam
from recis_core.table.disk import DiskStore, disk_store
from tests.tiers.test_disk_full import Ballast, small_disk

__all__ = ["small_disk"]
STEPS, FULL_AT, DIM = 60, 20, 32


def _engine(cache: CacheConfig | None) -> tuple[EmbeddingEngine, SparseAdam]:
    engine = EmbeddingEngine({"f": EmbeddingOption(DIM, backend="numba", cache=cache)})
    return engine, SparseAdam(engine.sparse_parameters(), lr=0.01)


def _step(engine: EmbeddingEngine, optimizer: SparseAdam, step: int) -> None:
    ids = torch.randint(20_000, (100, 2), generator=torch.Generator().manual_seed(step))
    engine({"f": ids})["f"].square().sum().backward()
    optimizer.step()


def _refused(engine: EmbeddingEngine, optimizer: SparseAdam, step: int) -> None:
    with pytest.raises(StorageFull, match="free"):
        _step(engine, optimizer, step)


def _train_until_full(engine: EmbeddingEngine, optimizer: SparseAdam) -> int:
    """The step that was refused."""
    for step in range(FULL_AT, STEPS):
        try:
            _step(engine, optimizer, step)
        except StorageFull:
            return step
    raise AssertionError("the disk never was full")


def test_training_goes_on_once_there_is_space(small_disk: Path) -> None:
    plain, tiered = _engine(None), _engine(CacheConfig(device_rows=300, host_rows=400, disk=str(small_disk)))
    for step in range(STEPS):
        _step(*plain, step)
    for step in range(FULL_AT):
        _step(*tiered, step)
    ballast = Ballast(small_disk)
    ballast.take()
    full_at = _train_until_full(*tiered)
    _refused(*tiered, full_at)
    ballast.give_back()
    for step in range(full_at, STEPS):
        _step(*tiered, step)
    state = tiered[0].table("f").physical.storage.tiers
    assert len(state.lower.host) <= 400
    mine, theirs = tiered[0].table("f").snapshot(), plain[0].table("f").snapshot()
    assert torch.equal(mine.ids, theirs.ids)
    assert torch.equal(mine.weights, theirs.weights)
    assert all(torch.equal(mine.slots[name], theirs.slots[name]) for name in theirs.slots)
    state.close()


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_store, "DiskStore", partial(DiskStore, segment_bytes=1 << 17))


def _write_again(engine: EmbeddingEngine, optimizer: SparseAdam, steps: int) -> None:
    """2000 rows of 400 bytes, each time."""
    for _ in range(steps):
        engine({"f": torch.arange(2000).view(1000, 2)})["f"].square().sum().backward()
        optimizer.step()


@pytest.mark.usefixtures("small_segments")
def test_scratch_gives_back_compacted_files_before_it_is_full(small_disk: Path) -> None:
    """Rows of 0.8 MiB, written over and over: 8 MiB are enough."""
    engine, optimizer = _engine(CacheConfig(device_rows=300, host_rows=400, disk=str(small_disk)))
    _write_again(engine, optimizer, 40)
    state = engine.table("f").physical.storage.tiers
    stats = state.lower.disk.stats()
    assert stats["bytes_written"] > 3 * 8 * 2**20
    assert stats["flushes"] > 0
    engine.close()


@pytest.mark.usefixtures("small_segments")
def test_a_full_kept_disk_says_what_waits_for_a_flush(small_disk: Path) -> None:
    engine, optimizer = _engine(CacheConfig(device_rows=300, host_rows=400, disk=str(small_disk), keep=True))
    with pytest.raises(
        StorageFull, match=r"Files of [\d,]+ bytes were compacted, and go with the next engine.flush\(\)"
    ):
        _write_again(engine, optimizer, 40)
    lower = engine.table("f").physical.storage.tiers.lower
    assert lower.disk.freed_by_flush() > 0
    assert lower.disk.stats()["flushes"] == 0  # what was flushed is there still
    lower.disk.flush()
    assert lower.disk.freed_by_flush() == 0
    _write_again(engine, optimizer, 1)
    engine.close()


class FullUntilFlushed:
    """No room but for what a flush gives back, if that finds room itself."""

    def __init__(self, flushes: bool) -> None:
        self.flushes, self.waiting = flushes, 1

    def freed_by_flush(self) -> int:
        return self.waiting

    def flush(self) -> None:
        if not self.flushes:
            raise StorageFull("a manifest needs 100 bytes more")
        self.waiting = 0

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> int:
        if self.waiting:
            raise StorageFull("a tombstone needs 12 bytes more")
        return len(ids)


@pytest.mark.parametrize("flushes", [True, False])
def test_an_erase_on_full_scratch(flushes: bool) -> None:
    """It says what it needed itself, where a flush finds no room either."""
    lower = _engine(CacheConfig(device_rows=300))[0].table("f").physical.storage.tiers.lower
    lower.disk, lower.scratch = FullUntilFlushed(flushes), True
    with nullcontext() if flushes else pytest.raises(StorageFull, match="tombstone"):
        lower.erase(np.arange(3), np.zeros(3, np.int32))


def test_without_a_disk_a_full_host_tier_says_what_to_do() -> None:
    engine, optimizer = _engine(CacheConfig(device_rows=300, host_rows=400))

    def train() -> None:
        for step in range(STEPS):
            _step(engine, optimizer, step)

    with pytest.raises(TableFull, match=r"CacheConfig\(disk=DIR\)"):
        train()
