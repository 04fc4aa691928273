"""States of many ranks: whole or not at all, resumed bit for bit, or handed to other ranks with no row or gradient lost.

Sizes: W ranks.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recis_core.exchange.keyed_rows import SLOT
from recis_core.framework import TrainLoop
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD, join
from recis_core.serialize import (
    SavedState,
    latest_shared_state,
    latest_state,
    load_state,
    save_shared_state,
    save_state,
    shared_state,
    tables_sha256,
)
from recis_core.serialize.places import Aside
from recis_core.table.unapplied import Carried
from tests.exchange.models import B, Model, assert_same_tables, batch, optimizer_of, rows_of, share, united
from tests.exchange.ranks import run_ranks

LOSSY = "forward=int8+ef,backward=int4+sr+ef"
OPTIONS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "lossy": {"precision": LOSSY, "grad_reduce_by": "id"},
    "replicated": {"precision": "int4+ef", "sharding": "replicated"},
    "adaptive": {"precision": "auto(0.5,int4|int8|fp32)", "sharding": "column"},
}
REPLICAS = {"sharding": "replicated"}
PRECISIONS = {"int4": "forward=fp32,backward=int4+ef", "topk": "forward=fp32,backward=topk(20%,int8)+ef"}


def in_turn(rank: int, world: int, jobs: dict[str, tuple]) -> dict[str, Any]:
    """Several in one process group: starting one takes longer than any of them."""
    return {name: function(rank, world, *args) for name, (function, *args) in jobs.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("states"))


@pytest.fixture(scope="module")
def saved(folder) -> list[dict[str, Any]]:
    """What two ranks trained and saved."""
    jobs: dict[str, tuple] = {name: (whole, option, f"{folder}/{name}") for name, option in OPTIONS.items()}
    jobs |= {f"{name} undisturbed": (whole, option) for name, option in OPTIONS.items()}
    jobs["replicas"] = (whole, REPLICAS, f"{folder}/replicas")
    jobs["exact"] = (lossy_steps, f"{folder}/exact", "fp32")
    jobs |= {name: (lossy_steps, f"{folder}/{name}", precision) for name, precision in PRECISIONS.items()}
    return run_ranks(2, in_turn, jobs)


@pytest.fixture(scope="module")
def alone(folder) -> dict[str, Any]:
    return run_ranks(1, in_turn, {"fp32": (whole, {}, f"{folder}/one")})[0]


@pytest.fixture(scope="module")
def loaded(folder, saved, alone) -> dict[int, list[dict[str, Any]]]:
    """What any number of ranks made of it."""
    steps = {name: (applied, f"{folder}/{name}", "fp32") for name in PRECISIONS}
    others: dict[str, tuple] = {
        "fp32": (resumed, {}, f"{folder}/fp32"),
        "replicas": (resumed, REPLICAS, f"{folder}/replicas"),
    }
    passing = {
        "once": (passed_on, f"{folder}/int4", f"{folder}/b", PRECISIONS["int4"]),
        "twice": (passed_on, f"{folder}/b", f"{folder}/c", PRECISIONS["int4"]),
    }
    three = run_ranks(3, in_turn, others | {n: (*job, True) for n, job in steps.items()} | passing)
    one = run_ranks(
        1,
        in_turn,
        others | {n: (*job, False) for n, job in steps.items()} | {"passed": (applied, f"{folder}/c", "fp32", False)},
    )
    two: dict[str, tuple] = {name: (resumed, option, f"{folder}/{name}") for name, option in OPTIONS.items()}
    two |= {n: (*job, False) for n, job in steps.items()}
    two["one"] = (resumed, {}, f"{folder}/one")
    two["table:1"] = (resumed, {"sharding": "table:1"}, f"{folder}/fp32")
    two["replicas"] = (resumed, REPLICAS, f"{folder}/fp32")
    two["kept"] = (kept_on, f"{folder}/int4", PRECISIONS["int4"])
    return {1: one, 2: run_ranks(2, in_turn, two), 3: three}


def save(loop: TrainLoop, folder: str) -> Path:
    if loop.exchange is None:
        return save_state(folder, loop.step, loop.state())
    return save_shared_state(folder, loop.step, loop.shared_state(), loop.own_state(), loop.exchange)


def load(loop: TrainLoop, folder: str) -> None:
    find = latest_state if loop.exchange is None else lambda d: latest_shared_state(d, loop.exchange)
    loop.load_state(SavedState(find(folder)))


def loop_of(option: dict[str, Any]) -> TrainLoop:
    model = Model(**option)
    return TrainLoop(model, optimizer_of(model))


def train(loop: TrainLoop, rank: int, world: int, start: int, stop: int) -> None:
    for step in range(start, stop):
        loop.train_step(batch(step, share(rank, world)))


def told(loop: TrainLoop) -> dict[str, Any]:
    sha = tables_sha256(loop.model.engine.sparse_parameters())
    tower = torch.cat([p.detach().flatten() for p in loop.model.tower.parameters()]).numpy()
    return {"sha": sha, "rows": rows_of(loop.model), "tower": tower, "at": (loop.step, loop.rows)}


def whole(rank: int, world: int, option: dict[str, Any], folder: str | None = None) -> dict[str, Any]:
    """Six steps; with a folder, saving after three."""
    loop = loop_of(option)
    train(loop, rank, world, 0, 3)
    if folder is not None:
        save(loop, folder)
    train(loop, rank, world, 3, 6)
    return told(loop)


def resumed(rank: int, world: int, option: dict[str, Any], folder: str, steps: int = 3) -> dict[str, Any]:
    loop = loop_of(option)
    load(loop, folder)
    train(loop, rank, world, 3, 3 + steps)
    return told(loop)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_ranks_resume_bit_for_bit(saved, loaded, name: str) -> None:
    """Also senders' residuals; and saving changes nothing of the run that saves."""
    for before, after in zip(saved, loaded[2], strict=True):
        want = before[f"{name} undisturbed"]
        for got in (before[name], after[name]):
            assert (got["sha"], got["at"]) == (want["sha"], want["at"])
            assert np.array_equal(got["tower"], want["tower"])
    assert saved[0][name]["sha"]
    assert saved[1][name]["sha"] == ""  # the first rank's to know


@pytest.mark.parametrize(("world", "name"), [(1, "fp32"), (3, "fp32"), (2, "one"), (1, "replicas"), (3, "replicas")])
def test_other_ranks_get_every_row_and_slot(loaded, alone, world: int, name: str) -> None:
    ranks, want = [r[name] for r in loaded[world]], alone["fp32"]
    assert_same_tables(united([r["rows"] for r in ranks]) if name != "replicas" else ranks[-1]["rows"], want["rows"])
    np.testing.assert_allclose(ranks[0]["tower"], want["tower"], rtol=1e-5, atol=1e-6)
    assert ranks[0]["at"] == (6, 6 * B)


@pytest.mark.parametrize("name", ["table:1", "replicas"])
def test_another_sharding_gets_every_row(saved, loaded, name: str) -> None:
    """Also where tables come to lie in other storages."""
    assert_same_tables(loaded[2][1][name]["rows"], united([r["fp32"]["rows"] for r in saved]))


# Gradients that senders had not sent


class Linear(nn.Module):
    """Σ rows · fixed directions: what a step's gradient is depends on no weight."""

    def __init__(self, precision: str, by: str) -> None:
        super().__init__()
        option = EmbeddingOption(8, precision=precision, grad_reduce_by=by)
        self.engine = EmbeddingEngine({"user": option, "item": option})
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, features: dict[str, Any]) -> Tensor:
        out = self.engine({name: features[name] for name in ("user", "item")})
        return torch.cat([out["user"], out["item"]], 1)


def linear(precision: str, by: str = "worker") -> tuple[Linear, Any]:
    model = Linear(precision, by)
    return model, join(torch.optim.SGD([model.bias], lr=0.1), SparseSGD(model.engine.sparse_parameters(), lr=1.0))


def step(model: Linear, optimizer: Any, number: int, rank: int, world: int) -> None:
    generator = torch.Generator().manual_seed(number)
    directions = torch.randn(B, 16, generator=generator)[share(rank, world)]
    optimizer.zero_grad()
    (model(batch(number, share(rank, world))) * directions).sum().mul(world).backward()
    optimizer.step()


def lossy_steps(rank: int, world: int, folder: str, precision: str) -> dict[str, Any]:
    model, optimizer = linear(precision)
    for number in range(4):
        step(model, optimizer, number, rank, world)
    loop = TrainLoop(model, optimizer)
    save(loop, folder)
    kept = model.engine.table("user").physical.residuals
    assert kept is None or len(kept.snapshot().ids) > 0 or rank > 0
    return rows_of(model)


def applied(rank: int, world: int, folder: str, precision: str, scaled: bool) -> dict[str, Any]:
    """After loading, one step without any gradient."""
    model, optimizer = linear(precision)
    loop = TrainLoop(model, optimizer)
    load(loop, folder)
    optimizer.zero_grad()  # drops no carried gradient
    if scaled:
        step_of_nothing(model, optimizer)
    else:
        optimizer.step()
    again = str(folder) + f"-{world}"
    save(loop, again)
    left = load_state(latest_state(again))
    assert not any("pending" in saved for name, saved in left.items() if name.startswith("storage"))
    return rows_of(model)


def step_of_nothing(model: Linear, optimizer: Any) -> None:
    """Under a scaler, with an empty batch."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    out = model(batch(0, slice(0, 0)))
    scaler.scale(out.sum() + model.bias.sum() * 0).backward()
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("name", PRECISIONS)
def test_sent_and_pending_are_all_that_was_true(saved, loaded, name: str, world: int) -> None:
    """Σ sent + residual = Σ true: 2 → 1, 2 → 2, 2 → 3 apply what was pending, once."""
    exact, lossy = (united([r[n] for r in saved]) for n in ("exact", name))
    apart = [np.abs(lossy["user"][i] - row).max() for i, row in exact["user"].items() if i in lossy["user"]]
    assert max(apart) > 1e-3
    close(united([r[name] for r in loaded[world]]), exact)


def close(got: dict, exact: dict) -> None:
    for name, rows in exact.items():
        for i, row in rows.items():
            np.testing.assert_allclose(got[name][i], row, rtol=0, atol=2e-5, err_msg=f"{name} {i}")


def kept_on(rank: int, world: int, folder: str, precision: str) -> list[dict[str, Any]]:
    """Loaded by as many ranks: rows, and what each sender keeps."""
    model, optimizer = linear(precision)
    load(TrainLoop(model, optimizer), folder)
    table = model.engine.table("user").physical
    assert table.carried is None
    kept, sums = table.residuals.snapshot(), {}
    for i, ordinal, value in zip(kept.ids.tolist(), kept.tables.tolist(), kept.slots[SLOT], strict=True):
        sums[(table.names[ordinal], i)] = value.numpy()
    return [rows_of(model), sums]


def test_as_many_ranks_keep_their_residuals(saved, loaded) -> None:
    exact, ranks = united([r["exact"] for r in saved]), [r["kept"] for r in loaded[2]]
    got = united([rows for rows, _ in ranks])
    for name, rows in exact.items():
        for i, row in rows.items():
            left = sum(sums.get((name, i), 0.0) for _, sums in ranks)
            np.testing.assert_allclose(got[name][i] - left / 2, row, rtol=0, atol=2e-5)


def test_a_state_that_was_never_stepped_keeps_what_it_carries(saved, loaded) -> None:
    close(loaded[1][0]["passed"], united([r["exact"] for r in saved]))


def passed_on(rank: int, world: int, source: str, target: str, precision: str) -> None:
    loop = TrainLoop(*linear(precision))
    load(loop, source)
    save(loop, target)


@pytest.mark.parametrize("by", ["worker", "id"])
def test_every_backend_applies_what_is_carried(backend: str, by: str) -> None:
    """A known and a new row; with a gradient beside, and with none; unscaled though the others are scaled."""
    engine = EmbeddingEngine({"f": EmbeddingOption(4, backend=backend, grad_reduce_by=by)})
    optimizer = SparseSGD(engine.sparse_parameters(), lr=1.0)
    table = engine.table("f")
    before = engine({"f": torch.tensor([5, 7])})["f"].detach()
    table.insert(torch.tensor([9]), torch.zeros(1, 4))
    carried = Carried(torch.tensor([5, 9]), torch.tensor([0, 0]).int(), torch.tensor([[1.0] * 4, [2.0] * 4]))
    table.physical.carried = carried
    engine({"f": torch.tensor([5, 7])})["f"].sum().mul(8.0).backward()
    optimizer.handles()[0].grad.mul_(1 / 8)
    optimizer.step()
    after = dict(zip(table.ids().tolist(), table.embeddings(), strict=True))
    torch.testing.assert_close(after[5], before[0] - 2)
    torch.testing.assert_close(after[7], before[1] - 1)
    torch.testing.assert_close(after[9], torch.full((4,), -2.0))
    table.physical.carried = carried
    optimizer.step()
    after = dict(zip(table.ids().tolist(), table.embeddings(), strict=True))
    torch.testing.assert_close(after[5], before[0] - 3)
    torch.testing.assert_close(after[9], torch.full((4,), -4.0))


# Failures


def saves_with_a_failure(rank: int, world: int, folder: str, at: str) -> list[Any]:
    loop = loop_of({})
    train(loop, rank, world, 0, 1)
    owner: Any = Aside if at == "commit" else shared_state
    good = getattr(owner, at)

    def broken(*args: Any) -> Any:
        raise OSError("no space left on device")

    if rank == (0 if at == "commit" else 1):
        setattr(owner, at, broken)
    try:
        save(loop, folder)
        seen = ["saved"]
    except Exception as error:
        seen = [type(error).__name__]
    setattr(owner, at, good)
    seen.append(sorted(p.name for p in Path(folder).iterdir()))
    loop.exchange.channel.meet("plan")
    train(loop, rank, world, 1, 2)
    save(loop, folder)
    return [*seen, sorted(p.name for p in Path(folder).iterdir())]


@pytest.mark.parametrize("at", ["write_parts", "commit"])
def test_a_failure_on_one_rank_is_one_on_all_and_leaves_no_state(tmp_path, at: str) -> None:
    ranks = run_ranks(2, saves_with_a_failure, str(tmp_path), at)
    assert {r[0] for r in ranks} == {"OSError", "ExchangeMismatch"}
    assert all(not any(n.startswith("step") for n in r[1]) for r in ranks)
    assert [r[2] for r in ranks] == [["step-00000002"]] * 2


def refuses(rank: int, world: int, folder: str) -> list[Any]:
    """What a rank raises that loads it, and whether all is as it was, with rows of its own; then it goes on."""
    loop = loop_of({})
    train(loop, rank, world, 4, 6)
    before = told(loop)
    try:
        load(loop, folder)
        kind = "none"
    except Exception as error:
        kind = f"{type(error).__name__}: {error}"
    after = told(loop)
    same = [before[n] == after[n] for n in ("sha", "at")] + [np.array_equal(before["tower"], after["tower"])]
    train(loop, rank, world, 6, 7)
    return [kind, same]


@pytest.mark.parametrize("part", ["storage-0.rank-1", "random.rank-1", "dense"])
def test_damage_on_one_rank_s_part_is_refused_by_all_and_changes_none(tmp_path, folder, saved, part: str) -> None:
    shutil.copytree(latest_state(f"{folder}/fp32"), tmp_path / "step-00000003")
    file = tmp_path / "step-00000003" / f"{part}.safetensors"
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    ranks = run_ranks(2, refuses, str(tmp_path))
    assert [r[1] for r in ranks] == [[True] * 3] * 2
    assert ranks[1][0].startswith(f"CorruptCheckpoint: {file} has hash")
    assert ranks[0][0].startswith("CorruptCheckpoint" if part == "dense" else "ExchangeMismatch")


# Tables that are cut by columns


def columns_saved(rank: int, world: int, folder: str, precision: str) -> dict[str, Any]:
    loop = loop_of({"sharding": "column", "precision": precision})
    train(loop, rank, world, 0, 3)
    save(loop, folder)
    return told(loop)


def columns_loaded(rank: int, world: int, folder: str, sharding: str) -> dict[str, Any]:
    loop = loop_of({"sharding": sharding})
    load(loop, folder)
    own = loop.model.engine.table("user").physical
    late = 0.0 if own.carried is None else own.carried.values.square().sum().item()
    return told(loop) | {"late": late}


@pytest.mark.parametrize("precision", ["fp32", "forward=fp32,backward=int4+ef"])
def test_columns_come_together_and_apart(tmp_path, precision: str) -> None:
    """Saved by 2 ranks: the same table for 1, and for 3 by columns; pending gradient is cut and joined as well."""
    saved = run_ranks(2, columns_saved, str(tmp_path), precision)
    one = run_ranks(1, columns_loaded, str(tmp_path), "row")[0]
    three = run_ranks(3, columns_loaded, str(tmp_path), "column")
    assert one["sha"] == saved[0]["sha"] == three[0]["sha"]
    assert [len(r) for r in one["rows"].values()] == [len(r) for r in saved[0]["rows"].values()]
    assert np.isclose(sum(r["late"] for r in three), one["late"])
    assert (one["late"] > 0) == (precision != "fp32")
