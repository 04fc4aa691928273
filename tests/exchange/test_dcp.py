"""torch.distributed.checkpoint and torch.save: every row at any number of ranks, or an error; never fewer rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.nn.parallel import DistributedDataParallel

import recis_core.serialize.dcp
from recis_core.optim import SparseAdam, join
from recis_core.serialize import dense_state_dict, load_model, load_tables
from tests.exchange.models import Model, assert_same_tables, optimizer_of, rows_of, united
from tests.exchange.ranks import run_ranks
from tests.exchange.test_shardings import whole_rows
from tests.training.on_ranks import result, sharded, tower_of, train

SAVED, MORE = 2, 2  # steps before and after
SHARDINGS: dict[str, dict[str, Any]] = {
    "row": {},
    "replicated": {"sharding": "replicated"},
    "table": {"sharding": "table:0"},
    "column": {"sharding": "column"},
    "hot": {"sharding": "row+hot(20)"},
}


def made(world: int, seed: int = 0, **option: Any) -> tuple[Model, Any]:
    """A model under FSDP2 with Adam on both sides."""
    model = Model(**option)
    if seed:
        for p in model.parameters():
            nn.init.normal_(p)
    if world > 1:
        sharded(model, "both")
    sparse = SparseAdam(model.engine.sparse_parameters(), lr=0.05)
    return model, join(torch.optim.Adam(model.parameters(), lr=0.05), sparse)


def state_of(model: Model, optimizer: Any) -> dict[str, Any]:
    dense = get_optimizer_state_dict(model, optimizer.dense)
    return {"model": get_model_state_dict(model), "dense": dense, "sparse": optimizer.sparse.state_dict()}


def saves(rank: int, world: int, folder: str) -> dict[str, Any]:
    """Checkpoints of all kinds, and what they must give."""
    seen: dict[str, Any] = {}
    for name, option in SHARDINGS.items():
        model, optimizer = made(world, **option)
        losses = train(model, optimizer, rank, world, SAVED)
        optimizer.param_groups[-1]["lr"] = 0.025
        dcp.save(state_of(model, optimizer), checkpoint_id=f"{folder}/{name}")
        seen[name] = result(model, losses)
        if name != "row":
            continue
        state = model.state_dict()
        torch.save({k: v for k, v in state.items() if ".slices." in k}, f"{folder}/rank{rank}.pt")
        for whole in (True, False):
            options = StateDictOptions(full_state_dict=True, cpu_offload=not whole)
            full = get_model_state_dict(model, options=options)
            if rank == 0:
                torch.save(full, f"{folder}/full{int(whole)}.pt")
            seen[f"full{int(whole)}"] = sorted(full)
        seen["full_optimizer"] = sorted(
            get_optimizer_state_dict(model, optimizer.dense, options=StateDictOptions(full_state_dict=True))["state"]
        )
        train(model, optimizer, rank, world, MORE, SAVED)
        seen["later"] = result(model, losses)
    seen["ddp"] = _saves_ddp(rank, world, f"{folder}/ddp")
    return seen


def _saves_ddp(rank: int, world: int, path: str) -> dict[str, Any]:
    """Of the wrapper's own state_dict, whose keys begin with module."""
    model = Model()
    wrapped = DistributedDataParallel(model)
    losses = train(wrapped, optimizer_of(model), rank, world, 1)
    dcp.save(wrapped.state_dict(), checkpoint_id=path)
    return result(model, losses)


def loads(rank: int, world: int, folder: str) -> dict[str, Any]:
    """Each checkpoint in a new model, and training goes on."""
    seen: dict[str, Any] = {}
    read: list[tuple[str, str]] = []
    plain_read = recis_core.serialize.dcp._read

    def reading(path: Any, stored: Any, part: str, *more: Any) -> Any:
        read.append((str(path), part))
        return plain_read(path, stored, part, *more)

    recis_core.serialize.dcp._read = reading
    for name, option in SHARDINGS.items():
        model, optimizer = made(world, seed=1, **option)
        train(model, optimizer, rank, world, 1)  # rows and moments that must go
        _resume(f"{folder}/{name}", model, optimizer)
        seen[name] = result(model, [0.0], t=optimizer.sparse.state_dict()["t"], lr=optimizer.param_groups[-1]["lr"])
        if name == "row":
            train(model, optimizer, rank, world, MORE, SAVED)
            seen["later"] = result(model, [0.0])
    model = Model()
    optimizer = optimizer_of(model)
    load_tables(f"{folder}/ddp", model)
    seen["ddp"] = result(model, [0.0])
    seen["read"] = [part for path, part in read if path.endswith("row")]
    for whole in (0, 1):
        seen[f"full{whole}"] = _load_full(f"{folder}/full{whole}.pt", world)
    return seen


def _resume(path: str, model: Model, optimizer: Any) -> None:
    load_model(path, model)
    state = {"dense": get_optimizer_state_dict(model, optimizer.dense), "sparse": optimizer.sparse.state_dict()}
    dcp.load(state, checkpoint_id=path)
    set_optimizer_state_dict(model, optimizer.dense, state["dense"])
    optimizer.sparse.load_state_dict(state["sparse"])


def _load_full(path: str, world: int) -> dict[str, Any]:
    model, _ = made(world, seed=1)
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, torch.load(path, weights_only=True), options=options)
    return result(model, [0.0])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    folder = str(tmp_path_factory.mktemp("checkpoints"))
    return folder, run_ranks(2, saves, folder)


@pytest.fixture(scope="module", params=[1, 2, 3])
def loaded(request: pytest.FixtureRequest, checkpoints: Any) -> list[dict[str, Any]]:
    return run_ranks(request.param, loads, checkpoints[0])


def _rows(ranks: list[dict[str, Any]], name: str) -> dict[str, Any]:
    if name == "column":
        return whole_rows([rank[name] for rank in ranks])
    if name != "replicated":
        return united([rank[name]["rows"] for rank in ranks])
    whole: dict[str, Any] = {}
    for rank in ranks:  # a row that no gradient has touched may be on one rank only
        for table, rows in rank[name]["rows"].items():
            whole.setdefault(table, {}).update(rows)
    return whole


def _assert_equal(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].keys() == want[name].keys(), name
        assert all(np.array_equal(row, want[name][i]) for i, row in got[name].items()), name


@pytest.mark.parametrize("name", [*SHARDINGS, "ddp"])
def test_every_row_with_its_slots(name: str, checkpoints: Any, loaded: list[dict[str, Any]]) -> None:
    _assert_equal(_rows(loaded, name), _rows(checkpoints[1], name))


@pytest.mark.parametrize("name", SHARDINGS)
def test_the_tower_and_the_optimizers(name: str, checkpoints: Any, loaded: list[dict[str, Any]]) -> None:
    for rank in loaded:
        np.testing.assert_array_equal(rank[name]["tower"], checkpoints[1][0][name]["tower"])
        assert set(rank[name]["t"].values()) == {SAVED}
        assert rank[name]["lr"] == 0.025


def test_a_rank_reads_the_slices_it_needs(loaded: list[dict[str, Any]]) -> None:
    """Of each of three tables."""
    low, high = "slices.0-32768", "slices.32768-65536"
    wanted = {1: [[low, high]], 2: [[low], [high]], 3: [[low], [low, high], [high]]}[len(loaded)]
    assert [rank["read"] for rank in loaded] == [3 * parts for parts in wanted]


def test_training_goes_on_as_it_would_have(checkpoints: Any, loaded: list[dict[str, Any]]) -> None:
    assert_same_tables(_rows(loaded, "later"), _rows(checkpoints[1], "later"))
    np.testing.assert_allclose(loaded[0]["later"]["tower"], checkpoints[1][0]["later"]["tower"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["full0", "full1"])
def test_full_state_dict_gives_every_row(name: str, checkpoints: Any, loaded: list[dict[str, Any]]) -> None:
    _assert_equal(_rows(loaded, name), _rows(checkpoints[1], "row"))
    np.testing.assert_array_equal(loaded[0][name]["tower"], checkpoints[1][0]["row"]["tower"])


def test_full_state_dict_on_rank_0_or_on_all(checkpoints: Any) -> None:
    first, second = checkpoints[1]
    assert second["full0"] == []
    assert first["full0"] == first["full1"] == second["full1"]
    assert {"engine.tables.user.slices.0-32768.rows", "engine.tables.user.slices.32768-65536.rows"} < set(
        first["full0"]
    )
    assert (
        first["full_optimizer"]
        == second["full_optimizer"]
        == [f"tower.{i}.{n}" for i in (0, 2) for n in ("bias", "weight")]
    )


def loads_own(rank: int, world: int, folder: str) -> dict[str, Any]:
    """torch.save a rank, weights only."""
    model, _ = made(world, seed=1)
    state = dense_state_dict(model) | torch.load(f"{folder}/rank{rank}.pt", weights_only=True)
    model.load_state_dict(state)
    return result(model, [0.0])


def loads_too_little(rank: int, world: int, folder: str) -> list[str]:
    """What is said where slices are missing, by torch and by us."""
    said = []
    one = torch.load(f"{folder}/rank0.pt", weights_only=True)
    model, _ = made(world)
    before = rows_of(model)
    for load in (
        lambda: model.load_state_dict(dense_state_dict(model) | one),
        lambda: load_tables(f"{folder}/half", model),
        lambda: load_tables(f"{folder}/broken", model),
        lambda: load_tables(f"{folder}/row", Model(dim=12)),
        lambda: load_tables(f"{folder}/two", model),
        lambda: load_tables(f"{folder}/none", model),
        lambda: get_optimizer_state_dict(model, made(world)[1]),
    ):
        try:
            load()
            said.append("nothing")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
        except dcp.CheckpointException as error:
            said.append(f"CheckpointException: {error}")
    assert before == {"user": {}, "item": {}, "tags": {}}
    load_tables(f"{folder}/two", model, key="first")  # ranks still agree
    return said


def damaged(folder: str) -> None:
    """Beside the checkpoints, one of half the slices, one of two models, and one with a file cut off."""
    half = torch.load(f"{folder}/rank0.pt", weights_only=True)
    dcp.save(half, checkpoint_id=f"{folder}/half", no_dist=True)
    full = torch.load(f"{folder}/full1.pt", weights_only=True)
    dcp.save({"first": full, "second": full}, checkpoint_id=f"{folder}/two", no_dist=True)
    shutil.copytree(f"{folder}/row", f"{folder}/broken")
    for file in Path(f"{folder}/broken").glob("__1_*.distcp"):
        file.write_bytes(file.read_bytes()[:100])


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning")
def test_what_is_missing_is_said_on_every_rank(checkpoints: Any) -> None:
    folder = checkpoints[0]
    damaged(folder)
    first, second = run_ranks(2, loads_too_little, folder)
    assert "Missing key" in second[0]
    assert "slices.32768-65536.ids" in second[0]
    for here, there, what in zip(
        first[1:5], second[1:5], ("not there", "cannot be read", "wanted ids", "key="), strict=True
    ):
        kinds = {said.split(":")[0] for said in (here, there)}
        assert kinds <= {"CorruptCheckpoint", "ExchangeMismatch"}, (here, there)
        assert what in here + there
    assert first[5].startswith("FileNotFoundError")
    assert "RecisError" in first[6]
    assert "joint.dense" in first[6]


def test_torch_save_of_a_rank(checkpoints: Any) -> None:
    ranks = run_ranks(2, loads_own, checkpoints[0])
    _assert_equal(united([rank["rows"] for rank in ranks]), _rows(checkpoints[1], "row"))


def test_in_a_process_without_torch_distributed(checkpoints: Any) -> None:
    folder, ranks = checkpoints
    model = Model(backend="numba")
    optimizer_of(model)
    load_model(f"{folder}/row", model)
    _assert_equal(rows_of(model), _rows(ranks, "row"))
    np.testing.assert_array_equal(tower_of(model), ranks[0]["row"]["tower"])
    assert set(get_model_state_dict(model)) == set(model.state_dict())
