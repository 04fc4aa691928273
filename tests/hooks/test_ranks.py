"""Hooks of two ranks: the first one writes, all fail together, and each names what any of them has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recis_core.errors import ExchangeMismatch, NonFiniteGradient
from recis_core.hooks import EarlyStopHook, EvaluateHook, JsonLinesHook, NonFiniteHook
from tests.exchange.ranks import run_ranks
from tests.hooks.fake_run import FakeRun, batch_of
from tests.hooks.test_non_finite_hook import Poisoned


def error_of(run: FakeRun, batches: list[Any]) -> tuple[str, str]:
    try:
        run.train(batches)
    except (NonFiniteGradient, ExchangeMismatch, FileExistsError) as error:
        return type(error).__name__, str(error)
    return "", ""


def run_on(rank: int, *hooks: Any, **poison: Any) -> FakeRun:
    run = FakeRun(*hooks, model=Poisoned(backend="numba", **poison))
    run.rank, run.world = rank, 2
    return run


def batch(rank: int) -> dict[str, Any]:
    ids = torch.arange(8) + 100 * rank
    return batch_of(1) | {"item": ids, "seen": ids + 20, "user": ids + 40}


def non_finite(rank: int, world: int) -> dict[str, Any]:
    sparse = run_on(rank, NonFiniteHook(), feature="seen", rows=(2,) if rank == 1 else ())
    found = {"sparse": error_of(sparse, [batch(rank)])}
    dense = run_on(rank, hook := NonFiniteHook())
    hook.before_train(dense)
    dense.model(batch(rank)).sum().backward()
    if rank == 1:
        dense.model.line.bias.grad.fill_(float("inf"))
    try:
        hook.after_backward(dense)
    except NonFiniteGradient as error:
        found["dense"] = type(error).__name__, str(error)
    hook.end(dense)
    both = run_on(rank, NonFiniteHook(), feature="user", rows=(rank,))
    found["both"] = error_of(both, [batch(rank)])
    finite = run_on(rank, NonFiniteHook())
    finite.train([batch(rank)] * 3)
    found["finite"] = "", str(finite.step)
    return found


def calls_of_a_step(rank: int, world: int) -> list[int]:
    """Agreements of ranks in three steps, without and with the hook."""
    counts = []
    for hooks in ((), (NonFiniteHook(),)):
        run = run_on(rank, *hooks)
        before = run.model.embeddings.exchange.channel.calls
        run.train([batch(rank)] * 3)
        counts.append(run.model.embeddings.exchange.channel.calls - before)
    return counts


def logs(rank: int, world: int, folder: str) -> list[Any]:
    path = Path(folder) / "log.jsonl"
    hooks = JsonLinesHook(path, 1), EarlyStopHook("auc"), EvaluateHook(2)
    run = run_on(rank, *hooks)
    run.train([batch(rank)] * 2)
    states = [hook.state_dict() for hook in hooks]
    for state in states:  # losses here are of each rank
        state.get("sums", {}).pop("losses", None)
    return [states, error_of(run_on(rank, JsonLinesHook(path, 1)), [batch(rank)])]


def all_of(rank: int, world: int, folder: str) -> Any:
    return non_finite(rank, world), calls_of_a_step(rank, world), logs(rank, world, folder)


def test_two_ranks(tmp_path: Path) -> None:
    (found, calls, logged), (theirs, their_calls, their_log) = run_ranks(2, all_of, str(tmp_path))
    assert found == theirs  # each rank raises, and says the same
    said = {name: text.split(" is not finite: ")[-1].split(". ")[0] for name, (_, text) in found.items()}
    assert said["sparse"] == "table item (feature seen): id 122"
    assert said["dense"] == "parameter line.bias: 1 of 1 values"
    assert said["both"] == "table user (feature user): ids 40, 141"
    assert said["finite"] == "3"
    assert {kind for name, (kind, _) in found.items() if name != "finite"} == {"NonFiniteGradient"}
    assert calls == their_calls
    assert calls[0] == calls[1]  # the hook asks no other rank, unless something is wrong

    assert logged[0] == their_log[0]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3
    assert logged[1][0] == "FileExistsError"
    assert their_log[1][0] == "ExchangeMismatch"
    assert "FileExistsError" in their_log[1][1] or "rank 0" in their_log[1][1]
