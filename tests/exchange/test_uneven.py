"""Uneven, empty and misbehaving ranks: the one-process result, or the same error on every rank; never a hang."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel

from recis_core.exchange import global_mean, in_step
from tests.exchange.models import FEATURES, Model, assert_same_tables, batch, optimizer_of, rows_of, share, united
from tests.exchange.ranks import Failure, run_ranks, try_ranks

SHARES = {2: ([0, 14, 24], [0, 24, 24]), 3: ([0, 7, 7, 10], [0, 0, 0, 24])}


def _step(model: Any, optimizer: Any, data: dict[str, Any]) -> float:
    summed = F.binary_cross_entropy_with_logits(model(data), data["label"], reduction="sum")
    loss = global_mean(summed, len(data["label"]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def uneven(rank: int, world: int, bounds: list[int], steps: int) -> dict:
    model = Model()
    optimizer = optimizer_of(model)
    wrapped = DistributedDataParallel(model) if world > 1 else model
    rows = slice(bounds[rank], bounds[rank + 1])
    return {"losses": [_step(wrapped, optimizer, batch(s, rows)) for s in range(steps)], "rows": rows_of(model)}


@pytest.mark.parametrize(("world", "which"), [(2, 0), (2, 1), (3, 0), (3, 1)])
def test_unequal_batches_and_empty_ones(world: int, which: int) -> None:
    """7 / 0 / 3 rows, and all rows on one rank."""
    bounds = SHARES[world][which]
    want = run_ranks(1, uneven, [0, bounds[-1]], 4)[0]
    got = run_ranks(world, uneven, bounds, 4)
    assert_same_tables(united([r["rows"] for r in got]), want["rows"])
    np.testing.assert_allclose(np.mean([r["losses"] for r in got], 0), want["losses"], rtol=1e-5)


def five_against_three(rank: int, world: int) -> dict:
    model = Model()
    optimizer = optimizer_of(model)
    wrapped = DistributedDataParallel(model) if world > 1 else model
    mine = [batch(s, share(rank, world)) for s in range(5 if rank == 0 else 3)]
    losses = [_step(wrapped, optimizer, data) for data in in_step(mine)]
    return {"losses": losses, "rows": rows_of(model)}


def only_rank_0_after_three(rank: int, world: int) -> dict:
    """What the two ranks of five_against_three see, in one process."""
    model = Model()
    optimizer = optimizer_of(model)
    seen = [batch(s) if s < 3 else batch(s, share(0, 2)) for s in range(5)]
    return {"losses": [_step(model, optimizer, data) for data in seen], "rows": rows_of(model)}


def test_five_steps_against_three() -> None:
    want = run_ranks(1, only_rank_0_after_three)[0]
    got = run_ranks(2, five_against_three)
    assert [len(r["losses"]) for r in got] == [5, 5]
    assert_same_tables(united([r["rows"] for r in got]), want["rows"])


def joined(rank: int, world: int) -> dict:
    """torch's Join: losses are local means, so that a rank that has left need not be asked for its rows."""
    model = Model()
    optimizer = optimizer_of(model)
    model.tower.requires_grad_(False)
    with Join([model.engine, optimizer]):
        for s in range(5 if rank == 0 else 3):
            data = batch(s, share(rank, world))
            loss = F.binary_cross_entropy_with_logits(model(data), data["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return rows_of(model)


def joined_alone(rank: int, world: int) -> dict:
    """The same updates in one process: halves of a batch averaged, then one half against nothing."""
    model = Model()
    optimizer = optimizer_of(model)
    model.tower.requires_grad_(False)
    for s in range(5):
        optimizer.zero_grad()
        for part in range(2 if s < 3 else 1):
            data = batch(s, share(part, 2))
            (F.binary_cross_entropy_with_logits(model(data), data["label"]) / 2).backward()
        optimizer.step()
    return rows_of(model)


def test_join() -> None:
    assert_same_tables(united(run_ranks(2, joined)), run_ranks(1, joined_alone)[0])


def unused(rank: int, world: int, which: tuple[str, ...]) -> dict:
    """The last rank leaves outputs out of its loss; in one process the last rows do."""
    model = Model()
    optimizer = optimizer_of(model)
    for s in range(3):
        losses = []
        parts = [rank] if world > 1 else [0, 1]
        for part in parts:
            data = batch(s, share(part, 2))
            out = model.engine({name: data[name] for name in FEATURES})
            used = [name for name in FEATURES if part == 0 or name not in which]
            losses += [out[name].square().sum() for name in used]
        loss = global_mean(sum(losses, torch.zeros((), requires_grad=True)), 24 // world)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return rows_of(model)


@pytest.mark.parametrize("which", [("item",), FEATURES], ids=["one_output", "all_outputs"])
def test_outputs_unused_on_one_rank(which: tuple[str, ...]) -> None:
    want = run_ranks(1, unused, which)[0]
    assert_same_tables(united(run_ranks(2, unused, which)), want)


def bad_input(rank: int, world: int) -> list[str]:
    """Rank 1 hands in floats as ids once; then all go on."""
    model = Model()
    optimizer = optimizer_of(model)
    seen = []
    for s in range(3):
        data = batch(s, share(rank, world))
        if rank == 1 and s == 1:
            data["user"] = data["user"].float()
        try:
            _step(model, optimizer, data)
            seen.append("ok")
        except Exception as error:
            seen.append(type(error).__name__)
    return seen


def test_an_error_on_one_rank_is_raised_on_all() -> None:
    ranks = run_ranks(3, bad_input)
    assert ranks[1] == ["ok", "TypeError", "ok"]
    assert ranks[0] == ranks[2] == ["ok", "ExchangeMismatch", "ok"]


def evaluates_on_rank_0(rank: int, world: int) -> Any:
    model = Model()
    optimizer = optimizer_of(model)
    _step(model, optimizer, batch(0, share(rank, world)))
    if rank == 0:
        model.eval()
        with torch.no_grad():
            model(batch(1))
        model.train()
    _step(model, optimizer, batch(2, share(rank, world)))


def test_evaluation_on_rank_0_only_raises_everywhere() -> None:
    ranks = try_ranks(2, evaluates_on_rank_0)
    assert [type(r) for r in ranks] == [Failure, Failure]
    assert {r.kind for r in ranks} == {"ExchangeMismatch"}
    assert "different calls" in ranks[0].message or "different tables, modes" in ranks[0].message


def leaves_early(rank: int, world: int) -> Any:
    model = Model()
    optimizer = optimizer_of(model)
    for s in range(3 if rank == 0 else 1):
        _step(model, optimizer, batch(s, share(rank, world)))


def test_a_rank_that_leaves_is_an_error_on_the_other() -> None:
    ranks = try_ranks(2, leaves_early, env={"RECIS_EXCHANGE_TIMEOUT": "40"})
    assert isinstance(ranks[0], Failure)
    assert ranks[1] is None


def other_models(rank: int, world: int) -> Any:
    Model(dim=8 + rank)


def test_other_tables_are_seen_when_the_engine_is_made() -> None:
    ranks = try_ranks(2, other_models)
    assert {r.kind for r in ranks} == {"ExchangeMismatch"}


def second_backward_after_step(rank: int, world: int) -> str:
    model = Model()
    optimizer = optimizer_of(model)
    data = batch(0, share(rank, world))
    rows = model.engine({name: data[name] for name in FEATURES})["user"]
    rows.sum().backward(retain_graph=True)
    optimizer.step()
    try:
        rows.sum().backward()
    except Exception as error:
        return str(error)
    return "no error"


def test_a_gradient_that_would_be_lost_is_an_error() -> None:
    assert all(
        "after this step's gradients were exchanged" in said for said in run_ranks(2, second_backward_after_step)
    )
