"""Dense parameters that FSDP2 has sharded: each rank writes its blocks; other ranks and whole models read what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recis_core.errors import CorruptCheckpoint
from recis_core.serialize import CheckpointManager, open_checkpoint
from recis_core.serialize.checkpoint.sharded import Region, read_blocks
from recis_core.serialize.tree import Sharded
from tests.exchange.ranks import run_ranks

State = dict[str, Tensor]


def tower(world: int, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Rows of odd counts, so that blocks differ in size."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    if world > 1:
        from torch.distributed.fsdp import fully_shard

        fully_shard(model[0])
        fully_shard(model)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    optimizer.zero_grad()
    model(torch.arange(20.0).reshape(4, 5) / 20).square().sum().backward()
    optimizer.step()
    return whole(model, optimizer)


def whole(model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    values = dict(model.named_parameters())
    slots = {f"{name}.{slot}": v for name, p in values.items() for slot, v in optimizer.state[p].items()}
    return {
        n: (v.full_tensor() if hasattr(v, "full_tensor") else v).detach().clone() for n, v in (values | slots).items()
    }


def manager_of(model: nn.Module, optimizer: torch.optim.Optimizer, folder: str) -> CheckpointManager:
    manager = CheckpointManager(folder, save=None)
    manager.register(model=model, optimizer=optimizer)
    return manager


def saving(rank: int, world: int, folder: str, alone: str) -> dict[str, State]:
    model, optimizer = tower(world, 1)
    saved = trained(model, optimizer)
    manager = manager_of(model, optimizer, folder)
    manager.save(1)
    after = trained(model, optimizer)
    manager.close()
    return {"saved": saved, "after": after, "again": restored(world, folder), "of one": restored(world, alone)}


def restored(world: int, folder: str) -> State:
    """What a restore gives, and one step more."""
    model, optimizer = tower(world, 2)
    trained(model, optimizer)
    manager_of(model, optimizer, folder).restore()
    found = whole(model, optimizer)
    return found | {f"after {name}": value for name, value in trained(model, optimizer).items()}


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def alone(folder: Path) -> State:
    model, optimizer = tower(1, 1)
    found = trained(model, optimizer)
    manager = manager_of(model, optimizer, str(folder / "one"))
    manager.save(1)
    manager.close()
    return found


@pytest.fixture(scope="module")
def ranks(folder: Path, alone: State) -> list[dict[str, State]]:
    return run_ranks(2, saving, str(folder / "two"), str(folder / "one"))


def of_now(found: State) -> State:
    return {name: value for name, value in found.items() if not name.startswith("after ")}


def test_two_ranks_go_on(ranks: Any) -> None:
    for rank in ranks:
        assert same(of_now(rank["again"]), rank["saved"])
        assert same({n[6:]: v for n, v in rank["again"].items() if n.startswith("after ")}, rank["after"])


def test_one_rank_has_the_whole_and_two_the_blocks_of_a_whole(folder: Path, ranks: Any, alone: State) -> None:
    assert same(of_now(restored(1, str(folder / "two"))), ranks[0]["saved"])
    assert same(of_now(ranks[0]["of one"]), alone)


def test_no_rank_writes_the_whole(folder: Path, ranks: Any) -> None:
    found = open_checkpoint(folder / "two")
    assert {"dense.shards.rank-0", "optimizer.shards.rank-1"} <= set(found.parts)
    assert found.part("dense")["0.weight"] == Sharded("/0.weight", "F32", (7, 5))
    blocks = [found.part(f"dense.shards.rank-{rank}")["/0.weight"] for rank in (0, 1)]
    assert [block["offsets"] for block in blocks] == [[0, 0], [4, 0]]
    assert torch.equal(torch.cat([block["values"] for block in blocks]), ranks[0]["saved"]["0.weight"])


def test_a_region_of_blocks_and_a_missing_one(folder: Path, ranks: Any) -> None:
    found, tensor = open_checkpoint(folder / "two"), Sharded("/0.weight", "F32", (7, 5))
    got = read_blocks(found, "dense", {"/0.weight": (tensor, Region((2, 1), (4, 3)))})["/0.weight"]
    assert torch.equal(got, ranks[0]["saved"]["0.weight"][2:6, 1:4])
    with pytest.raises(CorruptCheckpoint, match="lacks blocks of /nothing"):
        read_blocks(found, "dense", {"/nothing": (tensor, Region((0, 0), (7, 5)))})
    with pytest.raises(CorruptCheckpoint, match=r"no block of a tensor \[3, 5\]"):
        read_blocks(found, "dense", {"/0.weight": (Sharded("/0.weight", "F32", (3, 5)), Region((0, 0), (3, 5)))})
