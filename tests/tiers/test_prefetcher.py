"""A Prefetcher whose batches come as planned, otherwise, or not at all: the same bits, and nothing stays held.

Sizes: B bags of a batch.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recis_core.backends.errors import RecisError
from recis_core.nn import EmbeddingEngine, Prefetcher
from recis_core.nn.prefetcher import LATE
from tests.contract.compare import assert_same
from tests.tiers.training import adam, assert_same_engines, cache_in, engine_of, held, tiers_of, train_ahead, unchanged
from tests.training.loop import B, Batch, loss_of, random_batches, train

POLICIES = ["lru", "lookahead"]


class Stop(Exception):
    """Of the reader."""


@pytest.fixture(params=POLICIES)
def tiered(request: pytest.FixtureRequest, tmp_path: Path) -> EmbeddingEngine:
    return engine_of(cache_in(tmp_path, policy=request.param))


def fails_after(batches: list[Batch], count: int) -> Iterator[Batch]:
    yield from batches[:count]
    raise Stop


def plainly_trained(batches: list[Batch]) -> EmbeddingEngine:
    engine = engine_of()
    train(engine, adam(engine), batches)
    return engine


@pytest.mark.parametrize("depth", [0, 1, 2, 8, 100])
def test_depths(tiered: EmbeddingEngine, depth: int) -> None:
    batches, plain = random_batches(40), engine_of()
    want = train(plain, adam(plain), batches)
    assert train_ahead(tiered, adam(tiered), batches, depth) == want
    assert_same_engines(tiered, plain)
    assert held(tiered) == 0
    assert not tiers_of(tiered).planned_calls.calls


@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize("begun", [0, 1, 6])
def test_a_second_pass_is_an_error(tiered: EmbeddingEngine, depth: int, begun: int) -> None:
    """Beside the first, of which so many were given, and after it."""
    batches = random_batches(6)
    ahead = Prefetcher(tiered, batches, depth)
    first = iter(ahead)
    given = [next(first) for _ in range(begun)]
    with pytest.raises(RecisError, match=r"iterated once.*one for each pass"):
        iter(ahead)
    given += first
    assert [id(batch) for batch in given] == [id(batch) for batch in batches]
    with pytest.raises(RecisError, match="iterated once"):
        list(ahead)


@pytest.mark.parametrize("depth", [0, 3])
def test_a_second_pass_after_one_that_was_left_is_an_error(tiered: EmbeddingEngine, depth: int) -> None:
    ahead = Prefetcher(tiered, random_batches(6), depth)
    for _ in ahead:
        break
    with pytest.raises(RecisError, match="iterated once"):
        list(ahead)


WRONG = [
    ("engine", 5, r"engine must be an EmbeddingEngine; got int\."),
    ("depth", "4", r"depth must be an int or None; got '4'\."),
    ("depth", 1.5, r"depth must be an int or None; got 1\.5\."),
    ("depth", True, r"depth must be an int or None; got True\."),
    ("threads", "1", r"threads must be an int or None; got '1'\."),
    ("features", 5, r"features must be a function of a batch, or None; got int\."),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_arguments_of_a_wrong_kind(name: str, value: Any, message: str) -> None:
    arguments: dict[str, Any] = {"engine": engine_of(), "reader": [], name: value}
    with pytest.raises(TypeError, match=message):
        Prefetcher(**arguments)


def test_evaluation_through_one_brings_and_counts_nothing(tiered: EmbeddingEngine) -> None:
    train(tiered, adam(tiered), random_batches(20))
    batches, counts = random_batches(12, ids=4000, seed=1), tiers_of(tiered).stats.counts
    want, before = [tiered.eval()(batch)["f"] for batch in batches], dict(counts)
    with unchanged(tiers_of(tiered), but_for_uses=True):
        for batch, rows in zip(Prefetcher(tiered, batches, 4), want, strict=True):
            assert_same("rows", tiered(batch)["f"], rows)
    assert {n: c for n, c in counts.items() if "bytes" not in n} == {
        n: c for n, c in before.items() if "bytes" not in n
    }


def test_eval_between_batches_sees_only_what_was_asked_for(tiered: EmbeddingEngine) -> None:
    """Rows of batches that are still to come are on the device, and unknown."""
    plain, batches, asked = engine_of(), random_batches(12), {"f": torch.arange(400)}
    seen: list[list[torch.Tensor]] = [[], []]
    for engine, source, outputs in ((plain, batches, seen[0]), (tiered, Prefetcher(tiered, batches, 4), seen[1])):
        optimizer = adam(engine)
        for batch in source:
            outputs.append(engine.eval()(asked)["f"].clone())
            assert engine.table("f").ids().tolist() == engine.eval().table("f").ids().tolist()
            train(engine.train(), optimizer, [batch])
    for got, want in zip(seen[1], seen[0], strict=True):
        assert_same("rows", got, want)
    assert_same_engines(tiered, plain)
    assert tiered.table("f").stats()["unknown"] == plain.table("f").stats()["unknown"] > 0


def skipped(number: int, batch: Batch) -> list[Batch]:
    return [batch] if number % 3 else []


def repeated(number: int, batch: Batch) -> list[Batch]:
    return [batch] * (1 + number % 3)


def changed(number: int, batch: Batch) -> list[Batch]:
    return [batch if number % 3 else {"f": batch["f"] + 1}]


def always_changed(number: int, batch: Batch) -> list[Batch]:
    return [{"f": batch["f"].flip(0)[:-1]}]


def cut_in_two(number: int, batch: Batch) -> list[Batch]:
    return [{"f": part} for part in batch["f"].split(9)]


@pytest.mark.parametrize("way", [skipped, repeated, changed, always_changed, cut_in_two], ids=lambda way: way.__name__)
def test_batches_that_come_otherwise(tiered: EmbeddingEngine, way: Any) -> None:
    batches = random_batches(40)
    plain = plainly_trained([part for number, batch in enumerate(batches) for part in way(number, batch)])
    optimizer, most = adam(tiered), 0
    for number, batch in enumerate(Prefetcher(tiered, batches, 3)):
        train(tiered, optimizer, way(number, batch))
        most = max(most, len(tiers_of(tiered).planned_calls.calls))
    assert_same_engines(tiered, plain)
    assert held(tiered) == 0
    assert most <= 3 + 2 + LATE


def test_batches_in_another_order(tiered: EmbeddingEngine) -> None:
    """Each two swapped: the first of them comes after one that was planned later."""
    batches = random_batches(40)
    swapped = [batches[i ^ 1] for i in range(40)]
    optimizer, waiting = adam(tiered), []
    for batch in Prefetcher(tiered, batches, 3):
        waiting.append(batch)
        if len(waiting) == 2:
            train(tiered, optimizer, waiting[::-1])
            waiting = []
    assert_same_engines(tiered, plainly_trained(swapped))


def test_a_batch_that_is_equal_to_one_before(tiered: EmbeddingEngine) -> None:
    one, other = random_batches(2)
    batches = [one, one, other, one, other, other] * 4
    train_ahead(tiered, adam(tiered), batches, 3)
    assert_same_engines(tiered, plainly_trained(batches))
    assert held(tiered) == 0


def test_micro_batches(tiered: EmbeddingEngine) -> None:
    """Two forwards before their backwards, and a step after both."""
    plain, batches = engine_of(), random_batches(40)
    for engine, source in ((plain, batches), (tiered, Prefetcher(tiered, batches, 3))):
        optimizer, losses = adam(engine), []
        for batch in source:
            losses.append(loss_of(engine(batch)))
            if len(losses) == 2:
                losses[1].backward()
                losses[0].backward()
                optimizer.step()
                losses = []
    assert_same_engines(tiered, plain)


def test_forwards_without_backward_leak_nothing(tiered: EmbeddingEngine) -> None:
    """Prefetch without backward leaks and pins (FBGEMM#6120)."""
    plain, batches = engine_of(), random_batches(40)
    for engine, source in ((plain, batches), (tiered, Prefetcher(tiered, batches, 3))):
        optimizer = adam(engine)
        for number, batch in enumerate(source):
            loss = loss_of(engine(batch))
            if number % 4 == 3:
                loss.backward()
                optimizer.step()
            del loss
    assert_same_engines(tiered, plain)
    assert held(tiered) == 0
    state = tiers_of(tiered)
    free = state.device.index.at["pinned"] < tiered.table("f").physical.clock.pinned_from
    assert free.all(), "rows stay pinned though no gradient can come"


def test_closed_early(tiered: EmbeddingEngine) -> None:
    """What was planned is forgotten; what was made ahead is none of the table's rows."""
    batches, optimizer = random_batches(40), adam(tiered)
    ahead = iter(Prefetcher(tiered, batches, 5))
    train(tiered, optimizer, [next(ahead) for _ in range(7)])
    ahead.close()
    assert held(tiered) == 0
    assert_same_engines(tiered, plainly_trained(batches[:7]))
    train(tiered, optimizer, batches[7:])
    assert_same_engines(tiered, plainly_trained(batches))


def test_an_exception_in_the_model(tiered: EmbeddingEngine) -> None:
    batches, optimizer = random_batches(40), adam(tiered)

    def fail_at_seven() -> None:
        for number, batch in enumerate(Prefetcher(tiered, batches, 5)):
            if number == 7:
                raise Stop
            train(tiered, optimizer, [batch])

    with pytest.raises(Stop):
        fail_at_seven()
    assert held(tiered) == 0
    train(tiered, optimizer, batches[7:])
    assert_same_engines(tiered, plainly_trained(batches))


def test_an_exception_in_a_step_that_was_staged(tiered: EmbeddingEngine) -> None:
    """Its forward came, its backward never does; then the same Prefetcher goes on."""
    batches, optimizer = random_batches(40), adam(tiered)
    for number, batch in enumerate(Prefetcher(tiered, batches, 5)):
        if number % 5 == 2:
            with pytest.raises(Stop):
                _fail_after(loss_of(tiered(batch)))
            gc.collect()
        else:
            train(tiered, optimizer, [batch])
    plain = engine_of()
    optimizer = adam(plain)
    for number, batch in enumerate(batches):
        if number % 5 == 2:
            plain(batch)
        else:
            train(plain, optimizer, [batch])
    assert_same_engines(tiered, plain)
    assert held(tiered) == 0


def _fail_after(loss: torch.Tensor) -> None:
    raise Stop


@pytest.mark.parametrize("after", [0, 1, 7, 40])
def test_an_exception_in_the_reader(tiered: EmbeddingEngine, after: int) -> None:
    """It is raised once the batches before it were given."""
    batches, optimizer = random_batches(40), adam(tiered)
    with pytest.raises(Stop):
        train_ahead_of(tiered, optimizer, fails_after(batches, after))
    assert held(tiered) == 0
    assert_same_engines(tiered, plainly_trained(batches[:after]))
    train(tiered, optimizer, batches[after:])
    assert_same_engines(tiered, plainly_trained(batches))


def train_ahead_of(engine: EmbeddingEngine, optimizer: Any, batches: Iterator[Batch]) -> None:
    for batch in Prefetcher(engine, batches, 5):
        train(engine, optimizer, [batch])


def test_the_reader_is_closed(tiered: EmbeddingEngine) -> None:
    closed = []

    def reader() -> Iterator[Batch]:
        try:
            yield from random_batches(40)
        finally:
            closed.append(True)

    ahead = iter(Prefetcher(tiered, reader(), 3))
    next(ahead)
    ahead.close()
    assert closed == [True]


def test_tables_change_between_batches(tiered: EmbeddingEngine) -> None:
    """Rows are erased, written and given back while the next batches' are on their way."""
    plain, batches = engine_of(), random_batches(40)
    for engine, source in ((plain, batches), (tiered, Prefetcher(tiered, batches, 4))):
        optimizer, table = adam(engine), engine.table("f")
        for number, batch in enumerate(source):
            train(engine, optimizer, [batch])
            if number % 4 == 1:
                table.physical.erase(torch.arange(number, 400, 3), table.ordinal)
            if number % 4 == 3:
                ids = torch.arange(number, 400, 5)
                table.insert(ids, torch.full((len(ids), table.dim), number / 40))
            if number % 10 == 9:
                engine.load_state_dict(engine.state_dict())
    assert_same_engines(tiered, plain)
    assert held(tiered) == 0


@pytest.mark.parametrize("depth", [0, 3])
def test_a_device_that_is_a_share_of_the_rows_grows(tmp_path: Path, depth: int) -> None:
    plain, tiered = engine_of(), engine_of(cache_in(tmp_path, "20%", "50%"))
    batches = random_batches(80, ids=20_000)
    train(plain, adam(plain), batches)
    train_ahead(tiered, adam(tiered), batches, depth)
    assert_same_engines(tiered, plain)
    state = tiers_of(tiered)
    assert state.device.capacity == pytest.approx(0.2 * state.known_rows(), rel=0.3)


def test_scores_are_as_without_it(tmp_path: Path) -> None:
    """LFU counts wrong under prefetch (FBGEMM#198): every use counts once, when its call comes."""
    batches, scores = random_batches(60), []
    for depth in (0, 1, 6):
        engine = engine_of(cache_in(tmp_path, 3 * B, policy="lfu(.9)"))  # no call overflows
        train_ahead(engine, adam(engine), batches, depth)
        scores.append(scores_of(engine))
    assert scores[0] == scores[1] == scores[2]
    assert len(scores[0]) > 100


def scores_of(engine: EmbeddingEngine) -> dict[int, float]:
    state = tiers_of(engine)
    with state.lock:
        below = [(ids, marks["score"]) for ids, _, marks in state.lower.scan_marks()]
        rows = state.device.index.all_rows()
        at = state.device.index.at
        parts = [*below, (at["ids"][rows], at["score"][rows])]  # what is on the device is the newest
        return {int(i): float(s) for ids, scores in parts for i, s in zip(ids, np.round(scores, 9), strict=True)}


def test_two_engines_two_prefetchers(tmp_path: Path) -> None:
    """Each of its own tables, at once."""
    engines = [engine_of(cache_in(tmp_path)) for _ in range(2)]
    batches = [random_batches(30, seed=seed) for seed in (0, 1)]
    optimizers = [adam(engine) for engine in engines]
    aheads = [Prefetcher(engine, each, 3) for engine, each in zip(engines, batches, strict=True)]
    for pair in zip(*aheads, strict=True):
        for engine, optimizer, batch in zip(engines, optimizers, pair, strict=True):
            train(engine, optimizer, [batch])
    for engine, each in zip(engines, batches, strict=True):
        assert_same_engines(engine, plainly_trained(each))


def test_several_tables_of_one_model(tmp_path: Path) -> None:
    """One storage with two of them."""
    plain, tiered = engine_of(features="ab"), engine_of(cache_in(tmp_path, 30, 100), features="ab")
    batches = random_batches(40, features="ab")
    want = train(plain, adam(plain), batches)
    assert train_ahead(tiered, adam(tiered), batches, 4) == want
    assert_same_engines(tiered, plain)
    assert held(tiered) == 0


def test_the_depth_is_the_caches_own(tmp_path: Path) -> None:
    assert Prefetcher(engine_of(cache_in(tmp_path, prefetch=3)), []).depth == 3
    assert Prefetcher(engine_of(), []).depth == 0
