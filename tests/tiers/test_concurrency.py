"""A Prefetcher on its thread, with delays where rows are on their way: none of them leaves or is stale; and others' bugs.

Sizes: B bags of a batch.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recis_core.nn import EmbeddingEngine, Prefetcher
from recis_core.table.disk import DiskStore
from recis_core.table.tiers.device_tier import DeviceTier
from recis_core.table.tiers.host_store import HostStore
from recis_core.table.tiers.tiered_storage import TieredStorage
from tests.contract.compare import assert_same
from tests.tiers.training import D, adam, assert_same_engines, cache_in, engine_of, held, tiers_of, train_ahead
from tests.training.loop import B, Batch, loss_of, random_batches, train

STEPS = 200
LONGEST = 1e-3  # seconds
DELAYED = [(DiskStore, "read"), (DiskStore, "find"), (DiskStore, "write"), (DeviceTier, "put_in"), (DeviceTier, "drop"),
           (DeviceTier, "read"), (HostStore, "write_at"), (HostStore, "read_at"), (HostStore, "take")]  # fmt: skip


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every way of a row takes a random while, before or after, and threads take turns often."""
    draws = random.Random(0)

    def slowly(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            before = draws.random() < 0.5
            time.sleep(before * draws.random() * LONGEST)
            result = method(*args, **kwargs)
            time.sleep((not before) * draws.random() * LONGEST)
            return result

        return wrapped

    for owner, name in DELAYED:
        monkeypatch.setattr(owner, name, slowly(getattr(owner, name)))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row leaves the device only where no gradient of it may come and no planned call waits for it."""
    victims, depart = DeviceTier.victims, DeviceTier.drop

    def chosen(tier: DeviceTier, count: int, pinned_from: int, consumed: int, kept: np.ndarray) -> np.ndarray:
        rows = victims(tier, count, pinned_from, consumed, kept)
        assert not (tier.index.at["pinned"][rows] >= pinned_from).any()
        assert not np.isin(rows, kept).any()
        return rows

    def dropped(tier: DeviceTier, rows: np.ndarray) -> None:
        assert (tier.index.at["held"][rows] == 0).all(), "a row that a planned call waits for left the device"
        depart(tier, rows)

    monkeypatch.setattr(DeviceTier, "victims", chosen)
    monkeypatch.setattr(DeviceTier, "drop", dropped)


@pytest.mark.parametrize("depth", [1, 8])
@pytest.mark.parametrize("policy", ["lru", "lookahead"])
@pytest.mark.parametrize("backend", ["torch", "numba", pytest.param("jax", marks=pytest.mark.full)])
def test_delays_change_no_bit(
    delays: None, watched: None, tmp_path: Path, backend: str, policy: str, depth: int
) -> None:
    """Concurrent prefetch evicts a row that is being read (FBGEMM#5480, #5807)."""
    batches = random_batches(STEPS if backend == "numba" else STEPS // 4)
    plain, tiered = engine_of(backend=backend), engine_of(cache_in(tmp_path, policy=policy), backend=backend)
    want = train(plain, adam(plain), batches)
    assert train_ahead(tiered, adam(tiered), batches, depth) == want
    assert_same_engines(tiered, plain)
    assert held(tiered) == 0
    if backend == "numba" and depth == 8:
        assert tiers_of(tiered).stats.counts["read_early"] > 0


def test_delays_while_the_table_changes(delays: None, watched: None, tmp_path: Path) -> None:
    """Erased, written and flushed rows, exports, another size of the device, and a disk that is compacted."""
    plain, tiered = engine_of(), engine_of(cache_in(tmp_path, policy="lookahead"))
    batches = random_batches(STEPS // 2)
    for engine, source in ((plain, batches), (tiered, Prefetcher(tiered, batches, 8))):
        optimizer, table = adam(engine), engine.table("f")
        for number, batch in enumerate(source):
            loss = loss_of(engine(batch))
            if engine is tiered:
                meddle(tiered, number)
            loss.backward()
            optimizer.step()
            if number % 9 == 1:
                table.physical.erase(torch.arange(number, 400, 7), table.ordinal)
            if number % 11 == 3:
                ids = torch.arange(number, 400, 31)
                table.insert(ids, torch.full((len(ids), D), number / STEPS))
    assert_same_engines(tiered, plain)
    assert held(tiered) == 0


def test_the_same_rows_are_evicted_where_rows_get_other_numbers_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A filter asks for marks, then for rows by number; what a thread may do in between is done in between."""
    marks = TieredStorage.marks

    def renumbered_after(storage: TieredStorage) -> Any:
        found, state = marks(storage), storage.tiers
        with state.lock:
            state.resize(40 if state.device.capacity == 24 else 24)
        return found

    monkeypatch.setattr(TieredStorage, "marks", renumbered_after)
    engines = [engine_of(cache, filter_hook="norm(.35)") for cache in (None, cache_in(tmp_path))]
    for engine in engines:
        optimizer, gone = adam(engine), 0
        for number, batch in enumerate(random_batches(30)):
            train(engine, optimizer, [batch])
            gone += sum(engine.evict().values()) if number % 3 == 2 else 0
        assert gone > 20
    assert_same_engines(engines[1], engines[0])


def meddle(engine: EmbeddingEngine, number: int) -> None:
    """What moves rows and changes none."""
    state = tiers_of(engine)
    if number % 5 == 0:
        with state.lock:
            state.resize((16, 24, 40)[number % 3])
    if number % 7 == 0:
        engine.flush()
    if number % 13 == 0:
        disk: Any = state.lower.disk
        disk.compact()
    if number % 17 == 0:
        engine.eval().table("f").snapshot()
        engine({"f": torch.arange(100)})
        engine.train()


def test_every_row_of_a_call_is_there_already(tmp_path: Path) -> None:
    """Row index mixed with slot where all keys hit (recsys-examples#468)."""
    plain, tiered = engine_of(), engine_of(cache_in(tmp_path))
    batches = [{"f": torch.arange(20).roll(shift) * 3} for shift in range(30)]
    want = train(plain, adam(plain), batches)
    assert train_ahead(tiered, adam(tiered), batches, 3) == want
    assert_same_engines(tiered, plain)
    counts = tiers_of(tiered).stats.counts
    assert counts["occurrence_hits"] == counts["occurrences"] - 20


@pytest.mark.parametrize("depth", [0, 2])
def test_calls_without_keys(tmp_path: Path, depth: int) -> None:
    """An empty key set makes an invalid launch (recsys-examples#292)."""
    none = {"f": torch.zeros(0, dtype=torch.int64)}
    batches: list[Batch] = [none, none]
    for batch in random_batches(10):
        batches += [batch, none]
    plain, tiered = engine_of(), engine_of(cache_in(tmp_path))
    train(plain, adam(plain), batches)
    train_ahead(tiered, adam(tiered), batches, depth)
    assert_same_engines(tiered, plain)
    assert held(tiered) == 0


@pytest.mark.parametrize("changed", ["none", "every second", "all"])
def test_rows_that_leave_together(tmp_path: Path, changed: str) -> None:
    """Evicted buffers with holes (HKV#242): of rows that leave, those that changed are written, each with its own bytes."""
    engine = engine_of(cache_in(tmp_path, 64, 200))
    ids = torch.arange(40) * 5 - 60
    rows = torch.arange(40 * D).reshape(40, D) / 8
    engine.table("f").insert(ids, rows)
    engine({"f": ids})
    state = tiers_of(engine)
    at = state.device.find(ids.numpy(), np.zeros(40, np.int32)).astype(np.int64)
    which = {"none": slice(0, 0), "every second": slice(0, None, 2), "all": slice(None)}[changed]
    rows[which] += 1000
    kept = state.device.read(at[which])
    state.device.overwrite(at[which].astype(np.int32), type(kept)(rows[which], kept.slots, kept.marks))
    before = state.stats.counts["written_back"]
    state.depart(at)
    assert state.stats.counts["written_back"] - before == len(rows[which])
    assert len(state.device) == 0
    assert_same("rows", engine.table("f").embeddings(), rows)


def test_many_rows_at_once_and_none(tmp_path: Path) -> None:
    """As many as the device holds leave in one call, then a call needs none of them to."""
    plain, tiered = engine_of(), engine_of(cache_in(tmp_path, 2 * B, 0))
    whole = [{"f": torch.arange(2 * B) + 2 * B * k} for k in (0, 1, 0, 2, 1)]
    want = train(plain, adam(plain), [*whole, whole[-1]])
    assert train(tiered, adam(tiered), [*whole, whole[-1]]) == want
    assert_same_engines(tiered, plain)
