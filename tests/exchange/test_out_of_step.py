"""Ranks in different calls: the same error on both, which names both calls; then both go on."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from recis_core.backends.errors import ExchangeMismatch
from recis_core.channel.rank_group import RankGroup
from recis_core.exchange import forward, gradients, hot_rows, wire
from recis_core.exchange.sharded_table import ShardedTable
from recis_core.nn import EmbeddingEngine, EmbeddingOption, HashTable
from recis_core.optim import SparseSGD, clip_grad_norm_
from tests.exchange.calls import ALIKE, NEEDS_A_GRADIENT, WORDS, Calls
from tests.exchange.ranks import run_ranks

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
Pair = tuple[str, str]


def pairs() -> list[Pair]:
    """All that end in ExchangeMismatch at their first message; of each call three by turns unless in full."""
    names = list(WORDS)
    found = [
        (a, b)
        for a, b in itertools.product(names, names)
        if a != b and not any({a, b} <= alike for alike in ALIKE) and not _in_want(a, b)
    ]
    return found if FULL else [(a, b) for i, (a, b) in enumerate(found) if i % 7 == names.index(a) % 7]


def _in_want(a: str, b: str) -> bool:
    """One is a step without a gradient, the other needs one."""
    return "bare_step" in (a, b) and bool({a, b} & NEEDS_A_GRADIENT)


def meets(calls: Calls, name: str, other: str) -> str:
    """What a rank in `name` is told while the other is in `other`."""
    calls.good_step()
    if "bare_step" not in (name, other):
        calls.backward()
    try:
        calls.run(name)
    except ExchangeMismatch as error:
        return str(error)
    finally:
        calls.optimizer.zero_grad()
    return "no error"


def all_pairs(rank: int, world: int, folder: str, chosen: list[Pair]) -> dict[str, Any]:
    calls = Calls(rank, world, folder)
    told = {}
    for pair in chosen:
        told[pair] = meets(calls, pair[rank], pair[1 - rank])
        calls.good_step()
    return {"told": told, "digest": calls.digest(), "alike": {name: _alike(calls, name) for name in WORDS}}


def _alike(calls: Calls, name: str) -> str:
    """The same call on all ranks."""
    calls.good_step()
    if name != "bare_step":
        calls.backward()
    calls.run(name)
    calls.optimizer.zero_grad()
    return "ok"


def test_every_pair_of_calls_is_told_on_both_ranks(tmp_path) -> None:
    chosen = pairs()
    ranks = run_ranks(2, all_pairs, str(tmp_path), chosen, env={"RECIS_EXCHANGE_TIMEOUT": "120"})
    for rank, said in enumerate(ranks):
        for (a, b), words in said["told"].items():
            assert f"rank 0 in {WORDS[a]}" in words, (rank, a, b, words)
            assert f"rank 1 in {WORDS[b]}" in words, (rank, a, b, words)
        assert set(said["alike"].values()) == {"ok"}
    assert len(ranks[0]["digest"]) == 64


def disturbed(rank: int, world: int, folder: str, disturb: bool) -> str:
    """Steps of two backwards each. Between all calls of a step, the ranks are in different ones, and then repeat theirs."""
    calls = Calls(rank, world, folder)

    def apart(a: str, b: str) -> None:
        if disturb:
            before = calls.number
            with pytest.raises(ExchangeMismatch):
                calls.run((a, b)[rank])
            calls.number = before

    for _ in range(3):
        calls.optimizer.zero_grad()
        apart("digest", "forward")
        calls.backward()
        apart("forward", "in_step")
        calls.backward()
        apart("unscale", "step")
        apart("global_mean", "clip")
        calls.sync()
        apart("step", "clip_again")
        clip_grad_norm_(calls.optimizer, 0.01)
        calls.optimizer.step()
    return calls.digest()


def test_a_refused_call_changes_nothing_of_training(tmp_path) -> None:
    """Gradients that wait, forwards, steps: the same bits as of a run without a refused call."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    want = run_ranks(2, disturbed, str(tmp_path / "a"), False)
    assert run_ranks(2, disturbed, str(tmp_path / "b"), True) == want


def until_good(calls: Calls) -> int:
    """Steps until one is through on all ranks; how many were refused."""
    refused = 0
    while True:
        try:
            calls.good_step()
        except ExchangeMismatch:
            refused += 1
            assert refused < 5
        else:
            return refused


def attempt(calls: Calls, *passing: type[BaseException]) -> str:
    try:
        calls.good_step()
    except (ExchangeMismatch, *passing) as error:
        calls.optimizer.zero_grad()
        return type(error).__name__
    return "ok"


def interrupted(rank: int, world: int, folder: str, places: list[int]) -> dict[str, Any]:
    """An interrupt on rank 0 before its agreement number `place` of a step."""
    calls = Calls(rank, world, folder)
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    swap_lines, count = RankGroup.swap_lines, [0]

    def counting(self: RankGroup, lines: Any) -> Any:
        count[0] -= 1
        if count[0] == 0 and rank == 0:
            signal.raise_signal(signal.SIGUSR1)
        return swap_lines(self, lines)

    RankGroup.swap_lines = counting  # type: ignore[method-assign]
    seen = []
    for place in places:
        count[0] = place
        seen.append(attempt(calls, KeyboardInterrupt))
        count[0] = 0
        until_good(calls)
    return {"seen": seen, "step": calls.engine.table("user").physical.step}


def test_after_an_interrupt_on_one_rank_all_go_on(tmp_path) -> None:
    ranks = run_ranks(2, interrupted, str(tmp_path), [1, 2, 3, 4, 5])
    assert set(ranks[0]["seen"]) == {"KeyboardInterrupt"}
    assert set(ranks[1]["seen"]) <= {"ok", "ExchangeMismatch"}
    assert ranks[0]["step"] == ranks[1]["step"]


PLACES: dict[str, tuple[Any, str]] = {
    "ask": (forward, "_lookup"),
    "answer": (forward, "_answer"),
    "lay": (wire, "lay"),
    "pack": (gradients, "pack"),
    "message": (gradients.Parcel, "message"),
    "receive": (ShardedTable, "receive"),
    "measure": (ShardedTable, "local_measure"),
    "clip": (ShardedTable, "local_measure"),
}


def failing(rank: int, world: int, folder: str, kind: str) -> dict[str, list[str]]:
    """Each place fails once on rank 1, in the second of two backwards' step."""
    calls, seen = Calls(rank, world, folder, precision="backward=int8+ef"), {}
    for name, (owner, attribute) in PLACES.items():
        calls.optimizer.zero_grad()
        calls.backward()
        seen[name] = [_failing(calls, name, owner, attribute, rank)]
        if seen[name] == ["ok"]:  # where this rank does not come by
            continue
        if name in ("ask", "answer", "lay"):
            calls.backward()
        calls.optimizer.step()  # the same again
        calls.steps += 1
        until_good(calls)
    return {"seen": seen, "digest": calls.digest()}


def _failing(calls: Calls, name: str, owner: Any, attribute: str, rank: int) -> str:
    good = getattr(owner, attribute)

    def broken(*args: Any) -> Any:
        raise MemoryError("no memory")

    work: Callable[[], Any] = calls.forward if name in ("ask", "answer", "lay") else calls.optimizer.step
    work = calls.clip if name == "clip" else work
    number = calls.number
    if rank == 1:
        setattr(owner, attribute, broken)
    try:
        work()
    except (MemoryError, ExchangeMismatch) as error:
        calls.number = number
        return type(error).__name__
    finally:
        setattr(owner, attribute, good)
    return "ok"


def test_what_fails_on_one_rank_is_told_to_all_and_may_be_repeated(tmp_path) -> None:
    ranks = run_ranks(2, failing, str(tmp_path), "memory")
    assert ranks[1]["seen"] == {name: ["MemoryError"] for name in PLACES}
    assert ranks[0]["seen"] == {name: ["ExchangeMismatch"] for name in PLACES}


def wrong_ids(rank: int, world: int) -> list[str]:
    """Of a table of its own, on rank 1; then both go on."""
    table, said = HashTable([4]), []
    for dtype in (torch.int64, torch.float32 if rank else torch.int64, torch.int64):
        try:
            table(torch.arange(3, dtype=dtype))
            said.append("ok")
        except (TypeError, ExchangeMismatch) as error:
            said.append(type(error).__name__)
    return said


def test_wrong_ids_on_one_rank_are_told_to_all() -> None:
    assert run_ranks(2, wrong_ids) == [["ok", "ExchangeMismatch", "ok"], ["ok", "TypeError", "ok"]]


def three(rank: int, world: int, folder: str) -> str:
    calls = Calls(rank, world, folder)
    try:
        calls.run(("forward", "forward", "digest")[rank])
    except ExchangeMismatch as error:
        return str(error)
    return ""


def test_three_ranks(tmp_path) -> None:
    for said in run_ranks(3, three, str(tmp_path)):
        assert "ranks 0, 1 in a training forward" in said
        assert "rank 2 in tables_sha256" in said


def written(rank: int, world: int) -> list[Any]:
    """Rank 1 alone writes rows of its own, of which all have copies; then all rows of a table that every rank holds."""
    hot_rows.FIRST = 2
    options = {"hot": EmbeddingOption(4, sharding="row+hot(8)"), "whole": EmbeddingOption(4, sharding="replicated")}
    engine, ids = EmbeddingEngine(options), torch.arange(8)
    optimizer = SparseSGD(engine.sparse_parameters(), lr=0.1)

    def step() -> torch.Tensor:
        out = engine({"hot": ids, "whole": ids})
        (out["hot"].sum() + out["whole"].sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        return out["hot"].detach()

    for _ in range(4):
        step()
    table = engine.table("hot")
    assert table.physical.hot is not None
    assert len(table.physical.hot.ids) == 8
    mine = ids[table.physical.keeps(ids, 0)]
    if rank == 1:
        table.insert(mine, torch.full((len(mine), 4), 7.0))
    rows = [step()[:, 0].tolist()]
    if rank == 1:
        engine.table("whole").insert(ids, torch.ones(8, 4))
    with (
        pytest.raises(ExchangeMismatch, match="whole, replicated, changed") if rank else pytest.raises(ExchangeMismatch)
    ):
        step()
    if rank == 0:
        engine.table("whole").insert(ids, torch.ones(8, 4))
    return [*rows, step()[:, 0].tolist(), mine.tolist()]


def test_rows_written_on_one_rank_are_seen_on_all_or_told() -> None:
    first, second = run_ranks(2, written)
    assert first[:2] == second[:2]
    assert [first[0][i] for i in second[2]] == [7.0] * len(second[2])


def forgotten(rank: int, world: int) -> list[float]:
    """With overlap, gradients are on their way when they are dropped."""
    engine = EmbeddingEngine({"f": EmbeddingOption(4)}, overlap=True)
    optimizer = SparseSGD(engine.sparse_parameters(), lr=0.1)
    for factor in (100.0, 1.0):
        (engine({"f": torch.arange(4)})["f"].sum() * factor).backward()
        if factor == 1.0:
            before = engine.table("f").embeddings()
            optimizer.step()
        optimizer.zero_grad()
    return (before - engine.table("f").embeddings()).flatten().tolist()


def test_gradients_that_are_on_their_way_are_dropped_too() -> None:
    for moved in run_ranks(2, forgotten):
        assert moved == pytest.approx([0.1] * len(moved), rel=1e-5)


def steps_apart(rank: int, world: int, folder: str) -> str:
    """Rank 1's table is loaded at another step."""
    calls = Calls(rank, world, folder)
    if rank == 1:
        calls.engine.table("user").physical.step += 1
    try:
        calls.forward()
    except ExchangeMismatch as error:
        return str(error)
    return ""


def test_ranks_at_different_steps_say_which(tmp_path) -> None:
    first, second = run_ranks(2, steps_apart, str(tmp_path))
    assert "at step 1" in first
    assert "at step 2" in second
