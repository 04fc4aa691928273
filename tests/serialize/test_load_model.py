"""load_model: what was saved bare, under DDP or under FSDP2, as a checkpoint or a state, into models of each kind."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recis_core.backends.errors import CorruptCheckpoint, StateMismatch
from recis_core.framework import TrainLoop
from recis_core.serialize import (
    dense_state_dict,
    load_model,
    load_tables,
    save_shared_state,
    save_state,
)
from recis_core.serialize.tables import snapshot_tables
from tests.exchange.models import Model, optimizer_of, rows_of, united
from tests.exchange.ranks import run_ranks
from tests.training.on_ranks import result, sharded, tower_of, train

WRAPS = ("bare", "ddp", "fsdp")
SAVED = [*(f"{wrap}-checkpoint" for wrap in WRAPS), "bare-state", "ddp-state"]


def wrapped(model: Model, wrap: str) -> nn.Module:
    if wrap == "ddp":
        return DistributedDataParallel(model)
    return sharded(model, "both") if wrap == "fsdp" else model


def saves(rank: int, world: int, folder: str) -> dict[str, Any]:
    """What each of SAVED must give; each is of other rows."""
    seen = {}
    for number, wrap in enumerate(WRAPS):
        model = Model()
        trained = wrapped(model, "fsdp" if wrap == "fsdp" else "ddp")
        train(trained, optimizer_of(model), rank, world, 2, begin=10 * number)
        outer = model if wrap == "bare" else trained
        dcp.save({"model": outer.state_dict()}, checkpoint_id=f"{folder}/{wrap}-checkpoint")
        seen[f"{wrap}-checkpoint"] = result(model, [])
        if wrap != "fsdp":
            own = snapshot_tables(model.engine.sparse_parameters())
            exchange = model.engine.exchange
            save_shared_state(f"{folder}/{wrap}-state", 2, {"dense": dict(dense_state_dict(outer))}, own, exchange)
            seen[f"{wrap}-state"] = seen[f"{wrap}-checkpoint"]
    return seen


def loads(rank: int, world: int, folder: str) -> dict[str, Any]:
    seen = {}
    for saved in SAVED:
        for wrap in WRAPS if world > 1 else WRAPS[:1]:
            model = Model()
            for parameter in model.parameters():
                nn.init.zeros_(parameter)
            optimizer_of(model)
            load_model(f"{folder}/{saved}", wrapped(model, wrap))
            seen[saved, wrap] = result(model, [])
    return seen


@pytest.mark.parametrize("world", [1, 2])
def test_whatever_wraps_either_side(tmp_path_factory: pytest.TempPathFactory, world: int) -> None:
    folder = str(tmp_path_factory.mktemp("saved"))
    want, got = run_ranks(2, saves, folder), run_ranks(world, loads, folder)
    for saved, wrap in got[0]:
        rows = united([rank[saved, wrap]["rows"] for rank in got])
        _assert_equal(rows, united([rank[saved]["rows"] for rank in want]))
        np.testing.assert_array_equal(got[0][saved, wrap]["tower"], want[0][saved]["tower"])


def _assert_equal(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].keys() == want[name].keys(), name
        assert all(np.array_equal(row, want[name][i]) for i, row in got[name].items()), name


@pytest.fixture
def model() -> Model:
    """Trained two steps on one process."""
    made = Model(backend="numba")
    train(made, optimizer_of(made), 0, 1, 2)
    return made


def states(folder: Path, model: Model) -> Path:
    """A directory of two states of a TrainLoop, the later of which is the model's."""
    loop = TrainLoop(model, optimizer_of(model))
    save_state(folder, 9, loop.state())
    train(model, loop.optimizer, 0, 1, 1, begin=3)
    save_state(folder, 10, loop.state())
    return folder


def test_a_directory_of_states_or_one_of_them(tmp_path, model) -> None:
    """Without an optimizer, too: slots wait for one."""
    older = rows_of(model), tower_of(model)
    folder = states(tmp_path / "states", model)
    for path, want in ((folder, (rows_of(model), tower_of(model))), (folder / "step-00000009", older)):
        new = Model(backend="numba")
        load_model(path, new)
        optimizer_of(new)
        _assert_equal(rows_of(new), want[0])
        np.testing.assert_array_equal(tower_of(new), want[1])


def test_load_tables_reads_a_state_too(tmp_path, model) -> None:
    folder = states(tmp_path / "states", model)
    new = Model(backend="numba")
    optimizer_of(new)
    before = tower_of(new)
    load_tables(folder, new)
    _assert_equal(rows_of(new), rows_of(model))
    np.testing.assert_array_equal(tower_of(new), before)


def test_what_does_not_fit_changes_nothing(tmp_path, model) -> None:
    folder = states(tmp_path / "states", model)
    for other in (Model(dim=12, backend="numba"), nn.Sequential(Model(backend="numba"))):
        before = [p.clone() for p in other.parameters()]
        with pytest.raises(StateMismatch):
            load_model(folder, other)
        assert all(map(torch.equal, before, other.parameters()))
    (folder / "step-00000010" / "dense.safetensors").write_bytes(b"")
    with pytest.raises(CorruptCheckpoint):
        load_model(folder, Model(backend="numba"))


def test_what_is_neither_is_told(tmp_path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=r"no \.metadata.* and no state that --save wrote"):
            load_model(path, Model(backend="numba"))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning")
def test_a_checkpoint_under_another_key(tmp_path, model) -> None:
    dcp.save(model.state_dict(), checkpoint_id=tmp_path / "plain", no_dist=True)
    new = Model(backend="numba")
    with pytest.raises(CorruptCheckpoint, match="key=None"):
        load_model(tmp_path / "plain", new)
    load_model(tmp_path / "plain", new, key=None)
    np.testing.assert_array_equal(tower_of(new), tower_of(model))


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning")
def test_metadata_never_runs_code(tmp_path, model, capsys) -> None:
    dcp.save({"model": model.state_dict()}, checkpoint_id=tmp_path, no_dist=True)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Evil()))
    new = Model(backend="numba")
    before = tower_of(new)
    for load in (lambda: load_model(tmp_path, new), lambda: load_tables(tmp_path, new)):
        with pytest.raises(CorruptCheckpoint, match=r"\.metadata cannot be read: it names builtins\.print"):
            load()
    np.testing.assert_array_equal(tower_of(new), before)
    assert capsys.readouterr().out == ""


class Own(nn.Module):
    """A model whose own names are those of wrappers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.module = nn.Linear(1, 2, bias=False)


def test_a_model_s_own_module_is_not_taken_for_a_wrapper(tmp_path) -> None:
    saved, new = Own(), Own()
    save_state(tmp_path, 1, {"dense": dense_state_dict(saved)})
    load_model(tmp_path, new)
    assert torch.equal(new.module.weight, saved.module.weight)
