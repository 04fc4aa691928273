"""When and how often rows of a table in tiers were used, and how many were found: as of a table that fits, in any tier.

Sizes: B ids of a call.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recis_core.backends import Clock, LookupMode
from recis_core.nn import CacheConfig, EmbeddingEngine, Prefetcher
from recis_core.optim import SparseAdam
from recis_core.serialize.tables import restore_tables, snapshot_tables
from recis_core.table.tiers import lower_tiers, staging
from tests.contract.compare import assert_same
from tests.tiers.training import adam, assert_same_engines, cache_in, engine_of, planned, tiers_of
from tests.training.loop import loss_of

STEPS, B, IDS = 14, 12, 60
FILTERS = ["step(3)", "lru(20)", "lfu(20,decay=.5)", "ttl(1e6)"]
DEVICES = {"holds_a_call": 16, "holds_no_call": 4}
Way = Callable[[EmbeddingEngine, SparseAdam, np.random.Generator], None]


def ids_of(random: np.random.Generator) -> dict[str, Tensor]:
    return {"f": torch.from_numpy((random.random(B) ** 2 * IDS).astype(np.int64))}


def step(engine: EmbeddingEngine, optimizer: SparseAdam, random: np.random.Generator) -> None:
    loss_of(engine.train()(ids_of(random))).backward()
    optimizer.step()


def evaluation(engine: EmbeddingEngine, optimizer: SparseAdam, random: np.random.Generator) -> None:
    """Twice before the next step."""
    for _ in range(2):
        engine.eval()(ids_of(random))


def forward_alone(engine: EmbeddingEngine, optimizer: SparseAdam, random: np.random.Generator) -> None:
    """In training; no gradient follows, so that rows leave the device as they came."""
    with torch.no_grad():
        engine.train()(ids_of(random))


def gradient_dropped(engine: EmbeddingEngine, optimizer: SparseAdam, random: np.random.Generator) -> None:
    loss_of(engine.train()(ids_of(random))).backward()
    optimizer.zero_grad()


def flush(engine: EmbeddingEngine, optimizer: SparseAdam, random: np.random.Generator) -> None:
    engine.flush()


WAYS: list[Way] = [step, step, evaluation, step, forward_alone, gradient_dropped, evaluation, flush, evaluation]


def history(engine: EmbeddingEngine, *, check: Callable[[int], None] = lambda turn: None) -> None:
    """Steps, evaluations and other forwards, with evictions between."""
    optimizer, random = adam(engine), np.random.default_rng(0)
    for turn in range(3 * len(WAYS)):
        WAYS[turn % len(WAYS)](engine, optimizer, random)
        if turn % 4 == 3:
            if engine.table("f").physical._tickets:
                gc.collect()  # a forward that garbage keeps pins its rows
            engine.evict()
        check(turn)


def marks_of(engine: EmbeddingEngine) -> Any:
    physical = engine.table("f").physical
    return physical.storage.marks()


def assert_same_uses(got: EmbeddingEngine, want: EmbeddingEngine) -> None:
    mine, theirs = marks_of(got), marks_of(want)
    for name in ("ids", "tables", "stamps", "scores"):
        assert_same(name, getattr(mine, name), getattr(theirs, name))


@pytest.fixture(params=DEVICES.values(), ids=DEVICES)
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> CacheConfig:
    return cache_in(tmp_path, request.param, 8)


@pytest.mark.parametrize("backend", ["torch", "numba", pytest.param("jax", marks=pytest.mark.full)])
@pytest.mark.parametrize("filter_hook", FILTERS)
def test_the_same_rows_go(cache: CacheConfig, backend: str, filter_hook: str) -> None:
    plain, tiered = (engine_of(c, backend=backend, filter_hook=filter_hook) for c in (None, cache))
    seen: list[Any] = []
    history(plain, check=lambda turn: seen.append((marks_of(plain), plain.table("f").stats())))

    def check(turn: int) -> None:
        want, stats = seen[turn]
        got = marks_of(tiered)
        for name in ("ids", "stamps", "scores"):
            assert_same(f"{name} after turn {turn}", getattr(got, name), getattr(want, name))
        same = ("found", "unknown", "rows", f"evicted_by_{filter_hook.split('(')[0]}")
        mine = tiered.table("f").stats()
        assert {n: mine[n] for n in same} == {n: stats[n] for n in same}, turn

    history(tiered, check=check)
    assert_same_engines(tiered, plain)
    if not filter_hook.startswith("ttl"):
        assert sum(v for n, v in plain.table("f").stats().items() if n.startswith("evicted_by")) > 10


@pytest.mark.parametrize("depth", [1, 4])
def test_with_rows_staged_ahead(cache: CacheConfig, depth: int) -> None:
    """What is staged is found by the call that asks for it, not before."""
    plain, tiered = (engine_of(c, filter_hook="lfu(20)") for c in (None, cache))
    random = np.random.default_rng(1)
    batches = [ids_of(random) for _ in range(STEPS)]
    for engine, ahead in ((plain, batches), (tiered, Prefetcher(tiered, batches, depth))):
        optimizer, other = adam(engine), np.random.default_rng(2)
        for batch in ahead:
            loss_of(engine.train()(batch)).backward()
            optimizer.step()
            evaluation(engine, optimizer, other)
    assert_same_uses(tiered, plain)
    assert tiered.table("f").stats()["found"] == plain.table("f").stats()["found"]


@pytest.mark.parametrize("filter_hook", ["step(3)", "lfu(20)"])
def test_few_marks_wait(cache: CacheConfig, filter_hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are too many are written, over and over."""
    monkeypatch.setattr(lower_tiers, "DEFERRED_ROWS", 2)
    monkeypatch.setattr(lower_tiers, "DEFERRED_SHARE", 1 << 20)
    plain, tiered = (engine_of(c, filter_hook=filter_hook) for c in (None, cache))
    history(plain)
    late = []
    history(tiered, check=lambda turn: late.append(tiers_of(tiered).lower._deferred.waiting))
    assert max(late) <= 2
    assert_same_uses(tiered, plain)
    assert_same_engines(tiered, plain)


def test_marks_are_written_and_rows_keep_their_bits(tmp_path: Path) -> None:
    """Of rows in fewer bits, and of others in host memory than on disk."""
    tiered = engine_of(cache_in(tmp_path, 4, 8, host_precision="bf16", disk_precision="int8"), filter_hook="lfu(20)")
    history(tiered)
    tiered.eval()({"f": torch.arange(IDS)})
    before, lower = (marks_of(tiered), tiered.table("f").snapshot()), tiers_of(tiered).lower
    assert lower._deferred.waiting > 10
    lower._write_deferred()
    assert lower._deferred.waiting == 0
    after = marks_of(tiered), tiered.table("f").snapshot()
    for name in ("ids", "stamps", "scores"):
        assert_same(name, getattr(after[0], name), getattr(before[0], name))
    assert_same("weights", after[1].weights, before[1].weights)
    assert_same("m", after[1].slots["m"], before[1].slots["m"])


@pytest.mark.parametrize("filter_hook", ["step(3)", "lfu(20)"])
def test_uses_are_kept_with_the_disk(tmp_path: Path, filter_hook: str) -> None:
    config = cache_in(tmp_path, 16, 8, keep=True)
    plain, first = (engine_of(c, filter_hook=filter_hook) for c in (None, config))
    history(plain)
    history(first)
    first.flush()
    tiers_of(first).close()
    again = engine_of(config, filter_hook=filter_hook)
    adam(again)
    again.eval()({"f": torch.tensor([-1])})
    assert_same_uses(again, plain)


@pytest.mark.parametrize("mode", [LookupMode(insert=False), LookupMode(), LookupMode(touch=False)], ids=str)
@pytest.mark.parametrize("filter_hook", ["step(3)", "lfu(20)"])
def test_lookups_of_unique_ids(cache: CacheConfig, filter_hook: str, mode: LookupMode) -> None:
    """As of tables whose rows are on many ranks."""
    engines = [engine_of(c, filter_hook=filter_hook) for c in (None, cache)]
    for engine in engines:
        history(engine)
        physical = engine.table("f").physical
        for beg in (0, 10, 20):
            ids = torch.arange(beg, beg + 30)
            clock = Clock(100 + beg, 100 + beg)
            physical.storage.lookup(ids, torch.zeros(30, dtype=torch.int32), mode=mode, clock=clock)
    assert engines[1].table("f").stats()["found"] == engines[0].table("f").stats()["found"]
    if mode.touch or not mode.insert:  # else new rows that find no place are known by their update
        assert_same_uses(*engines)


@pytest.mark.parametrize("first", ["plain", "tiers"])
def test_counts_are_saved(cache: CacheConfig, first: str) -> None:
    """From a table that fits into one in tiers, and back."""
    engines = [engine_of(c, filter_hook="lfu(20)") for c in (None, cache)]
    saver, loader = engines if first == "plain" else engines[::-1]
    history(saver)
    adam(loader)
    restore_tables(loader.sparse_parameters(), snapshot_tables(saver.sparse_parameters()))
    assert_same_uses(loader, saver)


def test_rows_written_over_keep_their_counts(cache: CacheConfig) -> None:
    engines = [engine_of(c, filter_hook="lfu(20)") for c in (None, cache)]
    for engine in engines:
        history(engine)
        ids = torch.arange(0, 80, 3)
        engine.table("f").insert(ids, torch.ones(len(ids), 4))
    assert_same_uses(*engines)


def test_rows_written_over_those_made_ahead_of_their_call_are_used_once(cache: CacheConfig) -> None:
    """The call that they were made for has not come; to the table they are new."""
    engines = [engine_of(c, filter_hook="lfu(20)") for c in (None, cache)]
    for engine in engines:
        history(engine)
    ids = torch.arange(1000, 1003)
    tiers = tiers_of(engines[1])
    with tiers.lock:
        staging.stage(tiers, planned(engines[1].train(), {"f": ids}), new=True)
    for engine in engines:
        engine.table("f").insert(ids, torch.ones(len(ids), 4))
    assert_same_uses(*engines)


def test_a_row_of_a_call_that_does_not_fit_counts_its_occurrences(tmp_path: Path) -> None:
    """For the policy: of rows that are all below the device, the one a call asks for most stays longest in host memory."""
    engine = engine_of(cache_in(tmp_path, 1, 100, policy="lfu(.5)"))
    optimizer = adam(engine)
    ids = torch.tensor([1, 2, 2, 2, 2, 3, 3, 4, 4, 4])
    for _ in range(3):
        loss_of(engine({"f": ids})).backward()
        optimizer.step()
    tiers = tiers_of(engine)
    keys = np.arange(1, 5), np.zeros(4, np.int32)
    away = np.flatnonzero(tiers.device.find(*keys) < 0)
    got = tiers.lower.read(keys[0][away], keys[1][away]).rows.marks["score"]
    want = np.log(np.array([1, 4, 2, 3])[away]) + np.log(2 + 4 + 8)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    host = tiers.lower.host
    np.testing.assert_allclose(host.index.at["score"][host.rows_of(keys[0][away], keys[1][away])], want, rtol=1e-12)
