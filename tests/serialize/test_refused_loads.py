"""A load that is refused names the part and leaves the loop as it was; the same loop then takes the right state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.backends.errors import CorruptCheckpoint, StateMismatch
from recis_core.framework import TrainLoop
from recis_core.io import SyntheticClicks
from recis_core.models import DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdagrad, SparseAdam, join
from recis_core.serialize import SavedState, load_state, save_state, tables_sha256
from tests.serialize.states import FULL, same
from tests.training.loop import train_on_clicks

FIELDS = [f.name for f in SyntheticClicks("tiny").preset.fields]


def loop_of(
    dim: int = 4, kind: Any = SparseAdam, hidden: tuple[int, ...] = (8,), dense: Any = torch.optim.Adam
) -> TrainLoop:
    torch.manual_seed(0)
    model = DeepFM(FIELDS, dim, hidden=hidden, backend="torch")
    sparse = kind(filter_out_sparse_param(model), 1e-2)
    return TrainLoop(model, join(dense(model.parameters(), 1e-2), sparse))


def all_of(loop: TrainLoop) -> dict[str, Any]:
    """What a load may not touch."""
    state = copy.deepcopy({**loop.shared_state(), **loop.own_state()})
    return state | {"sha": tables_sha256(filter_out_sparse_param(loop.model))}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    loop = train_on_clicks(loop_of(), 64, 0, 3)
    return save_state(tmp_path_factory.mktemp("good"), loop.step, loop.state())


@pytest.fixture(scope="module")
def loop() -> TrainLoop:
    """With rows, slots and counts of its own."""
    return train_on_clicks(loop_of(), 64, 4, 6)


def refused(loop: TrainLoop, state: Any, said: str, kind: type[Exception] = CorruptCheckpoint) -> None:
    before = all_of(loop)
    with pytest.raises(kind, match=said):
        loop.load_state(state)
    assert same(all_of(loop), before)


def put(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    """Set, in a state, what is at the path."""

    def change(state: Any) -> None:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value(state[path[-1]]) if callable(value) else copy.deepcopy(value)

    return change


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: Any) -> None:
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return change


def _gradients(width: int = 4, ordinal: int = 0) -> dict[str, torch.Tensor]:
    return {"ids": torch.tensor([5]), "ordinals": torch.tensor([ordinal]).int(), "values": torch.ones(1, width)}


DENSE = "optimizer", "dense", "param_groups", 0
SPARSE = "optimizer", "sparse", "param_groups", 0
SLOTS = "optimizer", "dense", "state"
WEIGHT = "dense", "tower.0.weight"
CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    **{f"no {part}": (part, drop(part)) for part in ("progress", "dense", "optimizer", "random")},
    "no tables": ("the saved tables are", drop("storage-0")),
    **{
        f"{part} of None": (part, put(None, part)) for part in ("progress", "dense", "optimizer", "random", "storage-0")
    },
    "a count lost": ("progress", drop("progress", "step")),
    "a count too many": ("progress", put(3, "progress", "model")),
    "a count below 0": ("progress", put(-1, "progress", "rows")),
    "a count of a fraction": ("progress", put(1.5, "progress", "rows_in_epoch")),
    "a count of truth": ("progress", put(True, "progress", "epoch")),
    "a parameter lost": ("dense", drop(*WEIGHT)),
    "a parameter too many": ("dense", put(torch.zeros(1), "dense", "more")),
    "a parameter of another shape": ("dense", put(lambda t: t.T.contiguous(), *WEIGHT)),
    "a parameter that would be spread": ("dense", put(lambda t: t[:1], *WEIGHT)),
    "a parameter of another dtype": ("dense", put(lambda t: t.double(), *WEIGHT)),
    "a parameter of a word": ("dense", put("x", *WEIGHT)),
    "an lr of nan": ("optimizer", put(float("nan"), *DENSE, "lr")),
    "a sparse lr of inf": ("optimizer", put(float("inf"), *SPARSE, "lr")),
    "a beta of nan": ("optimizer", put((0.9, float("nan")), *DENSE, "betas")),
    "an lr of a tensor of nan": ("optimizer", put(torch.tensor(float("nan")), *DENSE, "lr")),
    "a t below 0": ("optimizer", put(lambda t: dict.fromkeys(t, -1), "optimizer", "sparse", "t")),
    "a t of fractions": ("optimizer", put(lambda t: dict.fromkeys(t, 1.5), "optimizer", "sparse", "t")),
    "no t": ("optimizer", drop("optimizer", "sparse", "t")),
    "accumulation of 0": ("optimizer", put(0, "optimizer", "sparse", "grad_accum_steps")),
    "other tables": ("optimizer", put(["other"], *SPARSE, "tables")),
    "no group": ("optimizer", put([], "optimizer", "dense", "param_groups")),
    "a group of fewer parameters": ("optimizer", put([0], *DENSE, "params")),
    "a slot of another shape": ("optimizer", put(torch.zeros(3, 3), *SLOTS, 0, "exp_avg")),
    "a slot of no parameter": ("optimizer", put({"step": torch.tensor(1.0)}, *SLOTS, 99)),
    "a slot of nan": ("optimizer", put(float("nan"), *SLOTS, 0, "step")),
    "no sparse side": ("optimizer", drop("optimizer", "sparse")),
    "random numbers of another size": ("random", put(torch.zeros(7, dtype=torch.uint8), "random", "torch")),
    "random numbers of floats": ("random", put(torch.zeros(5056), "random", "torch")),
    "no random numbers": ("random", drop("random", "torch")),
    "a table of another name": ("storage-0", put(lambda names: ["x", *names[1:]], "storage-0", "names")),
    **{
        f"{part} {name}": (part, put(value, part, *path))
        for part in ("storage-0", "storage-1")
        for name, path, value in (
            ("with weights of another width", ("snapshot", "weights"), lambda t: torch.cat([t, t], 1)),
            ("with weights of fewer rows", ("snapshot", "weights"), lambda t: t[1:]),
            ("with ids of floats", ("snapshot", "ids"), lambda t: t.double()),
            ("with an id twice", ("snapshot", "ids"), lambda t: t[:1].expand(len(t)).contiguous()),
            ("with tables that are not there", ("snapshot", "tables"), lambda t: t + 99),
            ("with tables below 0", ("snapshot", "tables"), lambda t: t - 99),
            ("without slots", ("snapshot", "slots"), {}),
            (
                "with slots of another width",
                ("snapshot", "slots"),
                lambda s: {n: torch.cat([t, t], 1) for n, t in s.items()},
            ),
            ("with slots of other names", ("snapshot", "slots"), lambda s: {f"{n}x": t for n, t in s.items()}),
            ("with a slot fewer", ("snapshot", "slots"), lambda s: dict(list(s.items())[1:])),
            ("with slot numbers out of range", ("snapshot", "slot_numbers"), lambda t: t + 2**20),
            ("with row numbers that meet", ("snapshot", "row_numbers"), lambda t: t * 0),
            ("with rows below 0", ("snapshot", "row_numbers"), lambda t: t - 9),
            ("with a step below 0", ("step",), -1),
            ("with a step of a word", ("step",), "x"),
            ("with gradients of another width", ("pending",), _gradients(width=3)),
            ("with gradients of no table", ("pending",), _gradients(ordinal=77)),
            ("with gradients of other keys", ("pending",), {"ids": torch.zeros(1).long()}),
        )
    },
    "a table without a snapshot": ("storage-0", drop("storage-0", "snapshot")),
}


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("case", CHANGES)
def test_a_state_that_cannot_be_is_refused_with_its_part(
    loop: TrainLoop, good: Path, tmp_path: Path, case: str, saved: bool
) -> None:
    """In memory, and saved: then its hashes are right."""
    part, change = CHANGES[case]
    state = load_state(good)
    change(state)
    refused(loop, SavedState(save_state(tmp_path, 3, state)) if saved else state, part, StateMismatch)


@pytest.mark.parametrize(
    "other",
    [
        {"dim": 8},
        {"kind": SparseAdagrad},
        {"hidden": (9,)},
        {"hidden": (8, 8)},
        {"dense": partial(torch.optim.Adam, amsgrad=True)},
    ],
)
def test_a_state_of_another_model_is_refused(loop: TrainLoop, tmp_path: Path, other: dict[str, Any]) -> None:
    theirs = train_on_clicks(loop_of(**other), 64, 0, 2)
    if "dense" not in other:
        refused(loop, SavedState(save_state(tmp_path, 2, theirs.state())), "step-00000002", ValueError)
    refused(theirs, {**loop.state(), "dense": {}}, "does not fit this model at", ValueError)


def test_damage_of_any_part_changes_nothing(loop: TrainLoop, good: Path, tmp_path: Path) -> None:
    """One bit of each file."""
    state = load_state(good)
    path = save_state(tmp_path, 3, state)
    for name in sorted(p.name for p in path.iterdir()):
        file = path / name
        was = file.read_bytes()
        for bit in range(0, 8 * len(was), len(was) // (8 if FULL else 1) or 1):
            bad = bytearray(was)
            bad[bit // 8] ^= 1 << bit % 8
            file.write_bytes(bad)
            before = all_of(loop) if FULL or bit == 0 else None
            with pytest.raises(CorruptCheckpoint, match=name):
                loop.load_state(SavedState(path))
            assert before is None or same(all_of(loop), before)
        file.write_bytes(was)


def test_after_refusals_the_right_state_is_taken_whole(good: Path) -> None:
    state = load_state(good)
    bad = load_state(good)
    CHANGES["a sparse lr of inf"][1](bad)
    one, other = train_on_clicks(loop_of(), 64, 0, 1), loop_of()
    refused(other, bad, "lr")
    for loop in (one, other):
        loop.load_state(state)
        assert (loop.step, loop.rows) == (3, 192)
    straight = train_on_clicks(loop_of(), 64, 0, 5)
    for loop in (one, other):
        assert same(all_of(train_on_clicks(loop, 64, 3, 5)), all_of(straight))


def test_a_state_in_memory_stays_its_givers(good: Path) -> None:
    """Two loops that load it do not share what torch's optimizer would keep of it."""
    state = load_state(good)
    one, other = loop_of(), loop_of()
    one.load_state(state)
    other.load_state(state)
    train_on_clicks(one, 64, 3, 5)
    assert same(state, load_state(good))
    assert same(all_of(train_on_clicks(other, 64, 3, 5)), all_of(one))
