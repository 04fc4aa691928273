"""Sizes of tiers, shares, counts and options of tables in tiers, each beside a table that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.backends.errors import RecisError
from recis_core.backends.tier_loops.disk_rows import HANDLE
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD
from recis_core.table.disk import DiskStore
from tests.tiers.test_cases import backend, both
from tests.tiers.training import D, adam, assert_same_engines, cache_in, engine_of, tiers_of
from tests.training.loop import B, loss_of, random_batches, train

__all__ = ["backend", "both"]


def test_stats(both: Any) -> None:
    plain, tiered = both()
    batches = random_batches(10, 60)
    for engine in (plain, tiered):
        train(engine, adam(engine), batches)
    want, stats = plain.table("f").stats(), tiered.table("f").stats()
    assert stats["rows"] == want["rows"] == len(plain.table("f").ids())
    assert stats["inserted"] == want["inserted"] == stats["cache_new"]
    assert stats["cache_occurrences"] == 10 * B
    found = sum(stats[f"cache_hits_{tier}"] for tier in ("device", "host", "disk"))
    assert found + stats["cache_new"] >= sum(len(batch["f"].unique()) for batch in batches)
    assert stats["cache_device_rows"] <= stats["cache_device_capacity"] == 8
    assert stats["cache_host_rows"] <= 12
    assert stats["cache_disk_rows"] > 0


def test_rows_that_were_loaded_or_written_count_as_inserted() -> None:
    """As in a table without tiers."""
    source = engine_of()
    train(source, adam(source), random_batches(10))
    plain, tiered = engine_of(), engine_of(CacheConfig(device_rows=8, policy="lru"))
    for engine in (plain, tiered):
        adam(engine)
        engine.load_state_dict(source.state_dict())
        engine.table("f").insert(torch.arange(1000, 1010), torch.zeros(10, D))
    want, stats = plain.table("f").stats(), tiered.table("f").stats()
    assert stats["inserted"] == want["inserted"] == stats["rows"] == want["rows"] > 110


def test_an_optimizer_that_comes_late_makes_no_row_twice() -> None:
    """Tiers that are a share of the table's rows stay as they are."""
    engine = engine_of(CacheConfig(device_rows="10%", host_rows=None, policy="lru"))
    for batch in random_batches(10):
        engine(batch)
    state = tiers_of(engine)
    before = state.table_rows, engine.table("f").stats()["inserted"]
    adam(engine)
    assert (state.table_rows, engine.table("f").stats()["inserted"]) == before == (state.known_rows(),) * 2


@pytest.mark.parametrize("kib", [600, 1024, 1500, 3000])
def test_bytes_hold_rows_and_their_index(kib: int) -> None:
    config = CacheConfig(device_bytes=kib << 10, host_bytes=kib << 10, policy="lru")
    engine = engine_of(config)
    optimizer = adam(engine)
    state = tiers_of(engine)
    host_rows = state.lower.host_rows
    assert host_rows is not None
    ids = torch.arange(state.device.capacity + host_rows)
    for part in ids.split(2000):
        train(engine, optimizer, [{"f": part}])
    values = D * 4 * 3  # weights and Adam's two slots
    host = state.lower.host
    assert (len(state.device), len(host)) == (state.device.capacity, host_rows)
    assert 0.8 < (len(state.device) * values + state.device.index.bytes) / (kib << 10) < 1.1
    assert 0.8 < (host_rows * state.lower.host_format.row_bytes + host.index.bytes) / (kib << 10) < 1.1


@pytest.mark.parametrize("rows", [1, 20, 30, 64, 500])
@pytest.mark.parametrize("usual", [16, 40])
def test_the_device_gets_another_size_while_gradients_wait(both: Any, usual: int, rows: int) -> None:
    """Between a forward, its backward and the step, over and over."""
    engines = both(usual)
    for engine in engines:
        optimizer, batches = adam(engine), random_batches(24, 60)
        for beg in range(0, 24, 3):
            first = loss_of(engine(batches[beg]))
            resized(engine, rows)
            first.backward()
            second = loss_of(engine(batches[beg + 1]))
            resized(engine, usual)
            third = loss_of(engine(batches[beg + 2]))
            second.backward()
            resized(engine, rows)
            third.backward()
            optimizer.step()
            resized(engine, usual)
    assert_same_engines(engines[1], engines[0])


def resized(engine: EmbeddingEngine, rows: int) -> None:
    if engine.options["f"].cache is not None:
        state = tiers_of(engine)
        with state.lock:
            state.resize(rows)


@pytest.mark.parametrize("share", ["5%", "20%"])
def test_the_device_is_a_share_of_the_rows(both: Any, share: str) -> None:
    """It grows with them, also between two forwards and their backwards."""
    engines = both(share, "50%")
    for engine in engines:
        optimizer, random = adam(engine), torch.Generator().manual_seed(0)
        for _ in range(12):
            losses = [loss_of(engine({"f": torch.randint(0, 5000, (300,), generator=random)})) for _ in range(2)]
            for loss in losses:
                loss.backward()
            optimizer.step()
    assert_same_engines(engines[1], engines[0])
    state = tiers_of(engines[1])
    assert state.device.capacity == pytest.approx(float(share[:-1]) / 100 * state.known_rows(), rel=0.3)


def test_row_numbers_of_a_table_in_tiers_are_refused(both: Any) -> None:
    """They change whenever rows move."""
    _, tiered = both()
    train(tiered, adam(tiered), random_batches(2, 60))
    with pytest.raises(RecisError, match=r"table 'f' have no numbers that last"):
        tiered.table("f").lookup_index(torch.arange(5))
    with pytest.raises(RecisError, match=r"table 'f' have no numbers that last"):
        tiered.table("f").accept_grad(torch.arange(5), torch.zeros(5, D))


def test_sgd_without_slots(both: Any) -> None:
    engines = both()
    for engine in engines:
        train(engine, SparseSGD(engine.sparse_parameters(), lr=0.1), random_batches(10, 60))
    assert_same_engines(engines[1], engines[0])


def test_options_of_one_table_must_agree_on_tiers(tmp_path: Path) -> None:
    option = {"shared_name": "t", "backend": "numba"}
    with pytest.raises(ValueError, match="must agree on cache"):
        EmbeddingEngine(
            {
                "a": EmbeddingOption(D, cache=cache_in(tmp_path), **option),
                "b": EmbeddingOption(D, cache=None, **option),
            }
        )


@pytest.mark.parametrize(("index_bytes", "to_file"), [(None, False), (1 << 20, False), (1 << 18, True), (0, True)])
def test_the_index_of_the_disk_within_bytes(tmp_path: Path, index_bytes: int | None, to_file: bool) -> None:
    """Entries for a few rows take 512 KiB. Beyond the bound they lie in a file, and training gives the same bits."""
    cache = cache_in(tmp_path, 8, 12, disk_index_bytes=index_bytes)
    plain, tiered = (engine_of(c, backend="numba") for c in (None, cache))
    for engine in (plain, tiered):
        train(engine, adam(engine), random_batches(10, 60))
    assert_same_engines(tiered, plain)
    stats = tiered.table("f").stats()
    assert stats["cache_disk_rows"] > 0
    assert (stats["cache_disk_index_disk_bytes"] > 0) == to_file


@pytest.mark.parametrize(("mapped_bytes", "by_handles"), [(None, False), (1 << 40, False), (0, True)])
def test_rows_on_disk_are_read_by_maps_within_bytes(tmp_path: Path, mapped_bytes: int | None, by_handles: bool) -> None:
    cache = cache_in(tmp_path, 8, 12, disk_mapped_bytes=mapped_bytes)
    plain, tiered = (engine_of(c, backend="numba") for c in (None, cache))
    for engine in (plain, tiered):
        train(engine, adam(engine), random_batches(10, 60))
    assert_same_engines(tiered, plain)
    store = tiers_of(tiered).lower.disk
    assert isinstance(store, DiskStore)
    assert len(store) > 0
    assert bool((store._log.view.files[:, HANDLE] >= 0).any()) == by_handles


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("index_bytes", "to_file"), [(1 << 20, False), ((1 << 20) - 1, True)])
def test_tables_have_equal_parts_of_the_bytes_of_indices(
    tmp_path: Path, index_bytes: int, to_file: bool, keep: bool
) -> None:
    """However use has divided the other bytes when their disks are opened."""
    options = {name: EmbeddingOption(dim, device="cpu", backend="numba") for name, dim in (("a", D), ("b", 2 * D))}
    cache = CacheConfig(device_bytes=4000, host_bytes=2000, disk=str(tmp_path), keep=keep, disk_index_bytes=index_bytes)
    engine = EmbeddingEngine(options, cache=cache)
    states = [tiers_of(engine, name) for name in options]
    for state, portion in zip(states, (0.9, 0.1), strict=True):
        state.take_portion(portion)
    engine(dict.fromkeys(options, torch.arange(100)))
    for state in states:
        stats = state.summary()
        assert stats["cache_disk_rows"] > 0
        assert (stats["cache_disk_index_disk_bytes"] > 0) == to_file
        state.close()


def test_a_table_that_nobody_asks_for_keeps_a_row_of_few_bytes() -> None:
    """Shares are divided in a training step, where no bound may turn out too small."""
    options = {name: EmbeddingOption(dim, device="cpu", backend="numba") for name, dim in (("a", D), ("b", 2 * D))}
    engine = EmbeddingEngine(options, cache=CacheConfig(device_bytes=1000, policy="lru"))
    sgd = SparseSGD(engine.sparse_parameters(), lr=0.1)
    for batch in random_batches(40, 20):
        engine({"a": batch["f"], "b": batch["f"][:0]})["a"].sum().backward()
        sgd.step()
    assert [tiers_of(engine, name).device.capacity for name in options] == [10, 1]


def test_host_memory_is_taken_as_it_is_needed() -> None:
    """Where there is a GPU it is pinned, and none of it only promised."""
    engine = engine_of(CacheConfig(device_rows=8, host_bytes=200 << 10, policy="lru"))
    train(engine, adam(engine), random_batches(10))
    assert engine.table("f").stats()["cache_host_bytes"] < 300 << 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"disk_index_bytes": 1}, "disk_index_bytes needs disk=DIR, the directory whose index it bounds"),
        (
            {"disk_index_bytes": -1, "disk": "d", "host_rows": 4},
            "must be at least 0, which keeps the index on disk; got -1",
        ),
        ({"disk_mapped_bytes": 1}, "disk_mapped_bytes needs disk=DIR, the directory whose files it bounds"),
        (
            {"disk_mapped_bytes": -1, "disk": "d", "host_rows": 4},
            "must be at least 0, which maps none for reads; got -1",
        ),
    ],
)
def test_bounds_of_a_disk_that_mean_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CacheConfig(device_rows=4, **options)
