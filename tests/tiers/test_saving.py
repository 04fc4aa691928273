"""States of tables in tiers: saved from tiers or a plain table into tiers or a plain one, and trained on alike.

Sizes: D dim.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recis_core.framework import TrainLoop
from recis_core.nn import CacheConfig, EmbeddingEngine
from recis_core.optim import join
from recis_core.serialize import latest_state, load_state, save_state
from recis_core.serialize.tables import restore_tables, snapshot_tables
from tests.contract.compare import assert_same
from tests.tiers.training import D, adam, adam_of, assert_same_engines, cache_in, engine_of, tiers_of, unchanged
from tests.training.loop import Batch, loss_of, random_batches, train

BATCHES = random_batches(24, 120)
BOUNDED = CacheConfig(device_rows=8, host_rows=12, policy="lru")
FOURS = [{"f": torch.arange(k, k + 4)} for k in range(0, 20, 4)]
HALF = 12
WAYS = [(a, b) for a in ("plain", "tiers") for b in ("plain", "tiers", "other tiers")][1:]
Build = Callable[[str], EmbeddingEngine]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    caches = {"tiers": cache_in(tmp_path / "disk"), "other tiers": cache_in(tmp_path / "disk", 9, 11, policy="lfu")}
    return lambda how: engine_of(caches.get(how))


def trained_through() -> EmbeddingEngine:
    engine = engine_of()
    train(engine, adam(engine), BATCHES)
    return engine


@pytest.mark.parametrize(("first", "then"), WAYS)
def test_state_dict(build: Build, first: str, then: str) -> None:
    """Into an engine that has rows of its own, which go."""
    saver, loader = build(first), build(then)
    optimizer = adam(saver)
    train(saver, optimizer, BATCHES[:HALF])
    other = adam(loader)
    train(loader, other, random_batches(8, 300, seed=5))
    loader.load_state_dict(saver.state_dict())
    other.load_state_dict(optimizer.state_dict())
    assert_same_engines(loader, saver)
    for engine, its in ((saver, optimizer), (loader, other)):
        train(engine, its, BATCHES[HALF:])
        assert_same_engines(engine, trained_through())


@pytest.mark.parametrize(("first", "then"), WAYS)
@pytest.mark.parametrize("attached_late", [False, True])
def test_snapshots_of_tables(build: Build, first: str, then: str, attached_late: bool) -> None:
    """With stamps, and into a table whose optimizer comes after its rows, too."""
    saver, loader = build(first), build(then)
    optimizer = adam(saver)
    train(saver, optimizer, BATCHES[:HALF])
    state = snapshot_tables(saver.sparse_parameters())
    other = None if attached_late else adam(loader)
    restore_tables(loader.sparse_parameters(), state)
    if other is None:
        loader.eval()({"f": torch.tensor([-1])})  # of no row, for reading counts as use of a plain row
        other = adam(loader.train())
    other.load_state_dict(optimizer.state_dict())
    assert_same_engines(loader, saver)
    train(loader, other, BATCHES[HALF:])
    assert_same_engines(loader, trained_through())
    train(saver, optimizer, BATCHES[HALF:])
    assert_same("stamps", stamps_of(loader), stamps_of(saver))


def stamps_of(engine: EmbeddingEngine) -> Tensor:
    stamps = engine.table("f").physical.export().stamps
    assert stamps is not None
    return stamps


class Model(nn.Module):
    def __init__(self, engine: EmbeddingEngine) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.engine, self.tower = engine, nn.Linear(D, 1)

    def forward(self, batch: Batch) -> Tensor:
        return self.tower(self.engine({"f": batch["f"]})["f"]).squeeze(1)


def loop_of(engine: EmbeddingEngine) -> TrainLoop:
    model = Model(engine)
    return TrainLoop(model, join(torch.optim.Adam(model.parameters(), lr=0.01), adam(engine)))


def labelled(batches: list[Batch]) -> list[Batch]:
    return [batch | {"label": (batch["f"] % 3 == 0).float()} for batch in batches]


@pytest.mark.parametrize(("first", "then"), WAYS)
def test_a_saved_and_resumed_loop(build: Build, tmp_path: Path, first: str, then: str) -> None:
    straight, saver, loader = (loop_of(build(how)) for how in ("plain", first, then))
    losses = [straight.train_step(batch) for batch in labelled(BATCHES)]
    for batch in labelled(BATCHES[:HALF]):
        saver.train_step(batch)
    save_state(tmp_path / "states", saver.step, saver.state())
    loader.load_state(load_state(latest_state(tmp_path / "states")))
    assert [loader.train_step(batch) for batch in labelled(BATCHES[HALF:])] == losses[HALF:]
    assert_same_engines(loader.model.engine, straight.model.engine)  # type: ignore[arg-type]
    assert_same("tower", loader.model.tower.weight, straight.model.tower.weight)  # type: ignore[union-attr, arg-type]


def test_gradients_that_wait_are_of_rows_that_moved(build: Build) -> None:
    """A state is taken between backward and step; training goes on as if it had not been."""
    plain, tiered = build("plain"), build("tiers")
    for engine in (plain, tiered):
        optimizer = adam(engine)
        for batch in BATCHES:
            loss_of(engine(batch)).backward()
            engine.state_dict()
            optimizer.step()
    assert_same_engines(tiered, plain)


def test_policies_go_on_after_loading(build: Build) -> None:
    """Score reset on load (HKV#272): rows that training overwrote keep their place in the order of leaving."""
    engine = build("tiers")
    train(engine, adam(engine), BATCHES[:HALF])
    state = tiers_of(engine)
    rows = state.device.index.all_rows()
    ids, scores = state.device.index.at["ids"][rows].copy(), state.device.index.at["score"][rows].copy()
    engine.table("f").insert(torch.from_numpy(ids), torch.zeros(len(ids), D))
    again = state.device.find(ids, state.device.index.at["tables"][rows])
    assert (again >= 0).all()
    assert state.device.index.at["score"][again].tolist() == scores.tolist()


def test_a_kept_disk_is_opened_again(tmp_path: Path) -> None:
    """By another engine, that then trains as if it were the first."""
    cache = cache_in(tmp_path, keep=True)
    first = engine_of(cache)
    optimizer = adam(first)
    train(first, optimizer, BATCHES[:HALF])
    saved = optimizer.state_dict()
    first.close()
    again = engine_of(cache)
    optimizer = adam(again)
    optimizer.load_state_dict(saved)
    train(again, optimizer, BATCHES[HALF:])
    assert_same_engines(again, trained_through())


def test_a_kept_disk_has_what_the_last_flush_left(tmp_path: Path) -> None:
    """Though rows were spilled since, and the engine goes in an orderly way."""
    cache = cache_in(tmp_path, keep=True)
    first = engine_of(cache)
    optimizer = adam(first)
    train(first, optimizer, BATCHES[:HALF])
    first.flush()
    saved = optimizer.state_dict()
    train(first, optimizer, BATCHES[HALF:])
    assert tiers_of(first).stats.counts["spilled"] > 0
    tiers_of(first).close()
    again = engine_of(cache)
    optimizer = adam(again)
    assert again.table("f").physical.step == tiers_of(again).tick == HALF
    optimizer.load_state_dict(saved)
    train(again, optimizer, BATCHES[HALF:])
    assert_same_engines(again, trained_through())


@pytest.mark.parametrize("hook", ["step(5)", "lru(30)"])
def test_filters_count_on_from_a_kept_disk(tmp_path: Path, hook: str) -> None:
    """What goes is what would have gone without an end between."""
    straight = engine_of(filter_hook=hook)
    train(straight, adam(straight), BATCHES)
    halves = trained_in_halves(cache_in(tmp_path, keep=True), filter_hook=hook)
    assert halves.evict() == straight.evict() != {"f": 0}
    assert_same("ids", halves.table("f").ids(), straight.table("f").ids())
    halves.close()


def trained_in_halves(cache: CacheConfig, **options: Any) -> EmbeddingEngine:
    """Closed, and opened again, between them."""
    first = engine_of(cache, **options)
    train(first, adam(first), BATCHES[:HALF])
    first.close()
    second = engine_of(cache, **options)
    train(second, adam(second), BATCHES[HALF:])
    return second


@pytest.mark.parametrize("policy", ["lru", "lfu"])
def test_policies_count_on_from_a_kept_disk(tmp_path: Path, policy: str) -> None:
    straight = engine_of(cache_in(tmp_path / "a", policy=policy))
    train(straight, adam(straight), BATCHES)
    halves = trained_in_halves(cache_in(tmp_path / "b", policy=policy, keep=True))
    assert scores_of(halves) == scores_of(straight)
    halves.close()


def scores_of(engine: EmbeddingEngine) -> dict[int, float]:
    engine.flush()
    chunks = tiers_of(engine).lower.scan_marks()
    return {id_: score for ids, _, marks in chunks for id_, score in zip(ids.tolist(), marks["score"], strict=True)}


def test_a_loaded_state_says_the_step_of_a_table_on_a_kept_disk(tmp_path: Path) -> None:
    """Before the disk is opened, too."""
    cache = cache_in(tmp_path, keep=True)
    engine = engine_of(cache)
    optimizer = adam(engine)
    train(engine, optimizer, BATCHES[:HALF])
    state = snapshot_tables(engine.sparse_parameters())
    train(engine, optimizer, BATCHES[HALF:])
    engine.close()
    for opened in (True, False):
        again = engine_of(cache)
        optimizer, table = adam(again), again.table("f").physical
        if opened:
            assert table.step == len(BATCHES)
            restore_tables(again.sparse_parameters(), state)
        else:
            table.step = state["storage-0"]["step"]
        train(again, optimizer, BATCHES[:1])
        assert table.step == HALF + 1
        assert tiers_of(again).step == tiers_of(again).pinned_from == HALF
        tiers_of(again).close()


def test_scratch_may_be_gone_before_its_table(tmp_path: Path) -> None:
    engine = engine_of(cache_in(tmp_path / "disk"))
    train(engine, adam(engine), BATCHES[:HALF])
    shutil.rmtree(tmp_path / "disk")
    engine.close()


def test_flush_changes_nothing_that_is_read(build: Build) -> None:
    tiered = build("tiers")
    optimizer = adam(tiered)
    for batch in BATCHES:
        train(tiered, optimizer, [batch])
        tiered.flush()
    assert_same_engines(tiered, trained_through())
    disk: Any = tiers_of(tiered).lower.disk
    assert len(disk) == len(tiered.table("f").ids())


@pytest.fixture
def full() -> EmbeddingEngine:
    """As many rows as its tiers hold."""
    engine = engine_of(BOUNDED)
    train(engine, adam(engine), FOURS)
    assert tiers_of(engine).known_rows() == 20
    return engine


def test_flush_without_a_disk_leaves_rows_where_they_are(full: EmbeddingEngine) -> None:
    with unchanged(tiers_of(full)):
        full.flush()
    train(full, adam_of(full), FOURS[-2:])


def test_what_fits_without_a_disk_fits_when_it_is_loaded(full: EmbeddingEngine) -> None:
    plain, loaded = engines = engine_of(), engine_of(BOUNDED)
    for engine in engines:
        optimizer = adam(engine)
        engine.load_state_dict(full.state_dict())
        optimizer.load_state_dict(adam_of(full).state_dict())
        train(engine, optimizer, FOURS[:2])
    assert_same_engines(loaded, plain)
