"""Deltas: whatever was trained, erased, cleared and loaded between saves, a chain gives the rows of the save."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.errors import CorruptCheckpoint, RecisError
from recis_core.nn import CacheConfig
from recis_core.serialize import (
    Checkpoint,
    DeltaPolicy,
    KeepBest,
    KeepEvery,
    KeepLast,
    TableBlock,
    new_checkpoint,
    open_checkpoint,
)
from recis_core.serialize.checkpoint import shot
from tests.exchange.models import rows_of
from tests.serialize.checkpoint.blocks import by_id
from tests.serialize.checkpoint.runs import Run
from tests.serialize.checkpoint.test_another_reader import Reader, same_rows
from tests.serialize.states import FULL


def kinds(directory: Path) -> str:
    steps = sorted(directory.glob("step-*"))
    return "".join(open_checkpoint(step).kind[0] for step in steps)


@pytest.mark.parametrize("seed", range(20 if FULL else 1))
def test_a_chain_gives_the_rows_of_its_save(tmp_path: Path, seed: int) -> None:
    rng, run, again = random.Random(seed), Run(), Run(seed=8)
    manager, other = run.manager(tmp_path, delta=DeltaPolicy(4)), again.manager(tmp_path)
    states = []
    for step in range(1, 10):
        run.step([step])
        table = rng.choice(list(run.tables().values()))
        if step % 2:
            table.erase(table.ids()[:: rng.randint(2, 9)])
        if step == 6:
            table.clear()
        manager.save(step)
        states.append(run.state())
    manager.close()
    assert kinds(tmp_path) == "fdddffddd"  # of 4 one is full, and one after clear()
    for step, state in list(enumerate(states, 1))[:: 1 if FULL else 3]:
        assert other.restore(step).step == step
        assert again.state() == state
        same_rows(open_checkpoint(tmp_path / f"step-{step:08d}"), Reader(tmp_path / f"step-{step:08d}"), "user")


def test_a_delta_holds_what_changed(tmp_path: Path) -> None:
    run = Run()
    run.step(range(6))
    manager = run.manager(tmp_path, delta=DeltaPolicy())
    manager.save(6)
    gone = run.tables()["user"].ids()[:2]
    run.tables()["user"].erase(gone)
    run.tables()["item"].insert(torch.tensor([77]), torch.ones(1, 8))
    manager.save(7)
    manager.close()
    found = open_checkpoint(tmp_path)
    assert (found.kind, found.tables["user"].rows, found.tables["item"].rows, found.tables["tags"].rows) == (
        "delta",
        0,
        1,
        0,
    )
    assert not set(by_id(found.blocks("user"))) & set(gone.tolist())
    assert set(by_id(found.blocks("user"))) == set(run.tables()["user"].ids().tolist())
    found.verify()


def test_a_compacted_chain_has_the_same_rows(tmp_path: Path) -> None:
    run = Run()
    manager = run.manager(tmp_path, delta=DeltaPolicy())
    for step in range(1, 4):
        run.step([step])
        manager.save(step)
    manager.close()
    chain = open_checkpoint(tmp_path)
    with new_checkpoint(tmp_path / "whole", chain.step) as writer:
        for name, info in chain.tables.items():
            writer.table(name, chain.blocks(name), dim=info.dim, dtype=info.dtype)
        for name in chain.parts:
            writer.part(name, chain.part(name))
    whole = open_checkpoint(tmp_path / "whole")
    assert (whole.kind, whole.base) == ("full", None)
    for name in chain.tables:
        assert by_id(whole.blocks(name)) == by_id(chain.blocks(name))
    again = Run(seed=8)
    again.manager(tmp_path / "whole").restore()
    assert again.state() == run.state()


def chain_of(tmp_path: Path, **how: Any) -> tuple[Run, Any]:
    run = Run()
    manager = run.manager(tmp_path, delta=DeltaPolicy(), **how)
    for step in (1, 2, 3):
        run.step([step])
        manager.save(step)
    manager.wait()
    return run, manager


def test_a_base_that_is_lost_damaged_or_another_one(tmp_path: Path) -> None:
    chain_of(tmp_path)
    (tmp_path / "step-00000002").rename(tmp_path / "kept")
    with pytest.raises(CorruptCheckpoint, match=r"step-00000002 lacks manifest\.json"):
        open_checkpoint(tmp_path)
    with new_checkpoint(tmp_path, 2) as writer:
        writer.part("dense", {})
    with pytest.raises(CorruptCheckpoint, match="another checkpoint of step 2"):
        open_checkpoint(tmp_path)
    assert open_checkpoint(tmp_path / "step-00000001").kind == "full"


def test_a_delta_whose_base_is_lost_is_not_saved_and_the_next_one_is_full(tmp_path: Path) -> None:
    run, manager = chain_of(tmp_path)
    (tmp_path / "step-00000003").rename(tmp_path / "kept")
    manager.save(4)
    with pytest.raises(RecisError, match="since step 3, whose checkpoint"):
        manager.wait()
    manager.save(5)
    manager.close()
    assert kinds(tmp_path) == "fdf"
    again = Run(seed=3)
    again.manager(tmp_path).restore()
    assert again.state() == run.state()


def test_after_a_failure_the_next_one_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, manager = chain_of(tmp_path)
    both = threading.Event()
    with monkeypatch.context() as broken:
        broken.setattr(shot.Shot, "write", lambda *args: both.wait(60) and 1 / 0)
        manager.save(4)
        manager.save(5)  # a delta upon the one that fails
        both.set()
        with pytest.raises(ZeroDivisionError) as raised:
            manager.wait()
    assert "A later save failed" in str(raised.value.__notes__)
    for step in (6, 7):
        run.step([step])
        manager.save(step)
    manager.close()
    assert kinds(tmp_path) == "fddfd"


def test_pruning_keeps_what_a_kept_delta_needs(tmp_path: Path) -> None:
    run = Run()
    keep = KeepLast(1) | KeepEvery(4) | KeepBest("auc", 1)
    manager = run.manager(tmp_path, delta=DeltaPolicy(3), keep=keep)
    for step in range(1, 9):
        run.step([step])
        manager.save(step, {"auc": -abs(step - 2.0)})
        manager.wait()
        open_checkpoint(tmp_path).verify()
    # full are 1, 4 and 7; 2 is the best and needs 1, 8 needs 7
    assert manager.steps() == [1, 2, 4, 7, 8]
    assert (manager.best("auc"), manager.best("loss")) == (2, None)
    for step in manager.steps():
        Checkpoint(tmp_path / f"step-{step:08d}").verify()


def test_tables_in_tiers(tmp_path: Path) -> None:
    cache = CacheConfig(device_rows=40, host_rows=40, disk=str(tmp_path / "disk"))
    run, plain = Run(cache=cache), Run(seed=8)
    manager = run.manager(tmp_path / "ckpt", delta=DeltaPolicy(), file_bytes=2000)
    run.step(range(6))
    manager.save(6)
    run.step([6])
    manager.save(7)
    manager.close()
    assert kinds(tmp_path / "ckpt") == "fd"
    assert open_checkpoint(tmp_path / "ckpt" / "step-00000006").tables["user"].shards > 2
    plain.manager(tmp_path / "ckpt").restore()
    assert plain.sha() == run.sha()
    again = Run(seed=9, cache=CacheConfig(device_rows=30, host_rows=30, disk=str(tmp_path / "other")))
    again.manager(tmp_path / "ckpt").restore()
    assert again.sha() == run.sha()
    for each in (run, plain, again):
        torch.manual_seed(1)
        each.step([7])
    assert rows_of(plain.model).keys() == rows_of(again.model).keys()
    assert plain.sha() == again.sha() == run.sha()
    assert isinstance(next(open_checkpoint(tmp_path / "ckpt").blocks("user")), TableBlock)


@pytest.mark.full
def test_a_large_table_is_saved_and_restored_in_little_memory(tmp_path: Path) -> None:
    """Growth beside what filling the table took: some files' and blocks' worth, however many rows there are."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.serialize.checkpoint.large_table", str(tmp_path), "1500000"],
        env=os.environ | {"RECIS_BACKEND": "numba"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    table, filled, saved, restored = map(int, ran.stdout.split())
    assert table > 1 << 30
    assert max(saved, restored) - filled < table // 4
