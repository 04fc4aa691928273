"""A run that stops and goes on: the same bits; asynchronous saves, their failures; what is refused changes nothing."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.errors import RecisError, StateMismatch, StorageInUse
from recis_core.serialize import AtEnd, CheckpointManager, EverySteps, KeepLast, open_checkpoint
from recis_core.serialize.checkpoint import shot
from recis_core.serialize.state_directory import saving, state_name
from tests.serialize.checkpoint.runs import Run


@pytest.fixture(scope="module")
def undisturbed() -> Run:
    run = Run()
    run.step(range(8))
    return run


@pytest.mark.parametrize("place", ["{tmp}", "memory://recis-{name}"])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_run_that_stops_goes_on_with_the_same_bits(
    tmp_path: Path, undisturbed: Run, place: str, asynchronous: bool
) -> None:
    place = place.format(tmp=tmp_path, name=f"{tmp_path.name}-{asynchronous}")
    first = Run()
    manager = first.manager(place, asynchronous=asynchronous)
    assert manager.restore() is None
    first.step(range(5))
    manager.save(5, {"auc": 0.5})
    first.step(range(5, 7))  # what was copied stays as it was
    manager.close()
    second = Run(seed=6)
    restored = second.manager(place).restore()
    assert restored is not None
    assert (restored.step, restored.missing, restored.fresh, restored.ignored) == (5, [], [], [])
    second.step(range(5, 8))
    assert second.state() == undisturbed.state()
    assert second.losses == undisturbed.losses[5:]
    open_checkpoint(place).verify()


def test_several_saves_are_under_way_and_all_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, write = threading.Event(), shot.Shot.write

    def held(self: Any, *args: Any) -> Any:
        go.wait(60)
        return write(self, *args)

    monkeypatch.setattr(shot.Shot, "write", held)
    run = Run()
    manager, states = run.manager(tmp_path), {}
    for step in (1, 2):
        run.step([step])
        manager.save(step)
        states[step] = run.state()
    assert manager.latest() is None  # none is durable yet
    go.set()
    manager.wait()
    assert manager.steps() == [1, 2]
    for step, state in states.items():
        again = Run(seed=9)
        again.manager(tmp_path).restore(step)
        assert again.state() == state


FAULTS = {
    "no space": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "read-only": lambda: OSError(errno.EROFS, os.strerror(errno.EROFS)),
    "no permission": lambda: PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_save_that_fails_is_raised_later_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    run = Run()
    manager = run.manager(tmp_path)
    run.step([0])
    manager.save(1)
    manager.wait()
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(FAULTS[fault]()))
    manager.save(2)
    manager._work.wait()
    monkeypatch.undo()
    with pytest.raises(OSError, match=str(FAULTS[fault]().strerror)):
        manager.save(3)
    assert manager.steps() == [1]
    open_checkpoint(tmp_path).verify()
    run.step([1])
    manager.save(4)
    manager.close()
    assert manager.steps() == [1, 4]


def test_a_directory_that_vanishes(tmp_path: Path) -> None:
    run, directory = Run(), tmp_path / "a"
    manager = run.manager(directory)
    run.step([0])
    manager.save(1)
    manager.wait()
    shutil.rmtree(directory)
    directory.write_text("a file")
    manager.save(2)
    with pytest.raises(NotADirectoryError):
        manager.wait()
    directory.unlink()
    manager.save(3)
    manager.close()
    assert manager.steps() == [3]


def test_another_process_that_saves_there(tmp_path: Path) -> None:
    run = Run()
    manager = run.manager(tmp_path)
    with saving(Path(tmp_path) / state_name(9)):
        manager.save(1)
        with pytest.raises(StorageInUse):
            manager.wait()


def test_what_has_no_safe_form_is_refused_at_once(tmp_path: Path) -> None:
    run = Run()
    run.metric.seen = object()  # type: ignore[assignment]
    manager = run.manager(tmp_path)
    with pytest.raises(TypeError, match="extra/metric|no safe form"):
        manager.save(1)
    with pytest.raises(ValueError, match="step"):
        manager.save(-1)
    run.metric.seen = 1
    manager.save(1)
    manager.close()
    with pytest.raises(RecisError, match="closed"):
        manager.save(2)


def test_registering(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path)
    with pytest.raises(RecisError, match="register"):
        manager.save(1)
    with pytest.raises(TypeError, match="state_dict"):
        manager.register(model=torch.nn.Linear(1, 1), data=7)
    with pytest.raises(TypeError, match="Module"):
        manager.register(model=7)
    manager.register(model=torch.nn.Linear(1, 1))
    with pytest.raises(RecisError, match="already"):
        manager.register(model=torch.nn.Linear(1, 1))
    for wrong in ({"save": 5}, {"keep": EverySteps(1)}, {"delta": 3}):
        with pytest.raises(TypeError, match="must be a"):
            CheckpointManager(tmp_path, **wrong)


def test_when_it_is_due(tmp_path: Path) -> None:
    run = Run()
    manager = run.manager(tmp_path, save=EverySteps(4) | AtEnd(), keep=KeepLast(2))
    assert [step for step in range(1, 10) if manager.due(step)] == [4, 8]
    for step in (4, 8, 12):
        manager.save(step)
        assert not manager.due(step)
    assert not manager.due(12, ending=True)
    assert manager.due(13, ending=True)
    manager.close()
    assert manager.steps() == [8, 12]


class Breaking:
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise KeyError("broken")


def test_a_restore_that_fails_changes_nothing(tmp_path: Path) -> None:
    run = Run()
    run.step(range(3))
    manager = CheckpointManager(tmp_path, asynchronous=False)
    manager.register(model=run.model, optimizer=run.optimizer, data=run.data, z=Breaking())
    manager.save(3)
    run.step(range(3, 5))
    before = run.state()
    with pytest.raises(KeyError, match="broken"):
        manager.restore()
    assert run.state() == before
    with pytest.raises(FileNotFoundError, match=r"step-00000099 is not there; .* has steps \[3\]"):
        manager.restore(99)
    other = Run(dim=4)
    with pytest.raises(StateMismatch, match="lacks.*metric.*which nothing here has"):
        run.manager(tmp_path).restore()
    narrow = CheckpointManager(tmp_path)
    narrow.register(model=other.model)
    was = other.state()
    with pytest.raises(StateMismatch):
        narrow.restore(load=["tables", "dense"])
    assert other.state() == was


def test_parts_are_chosen_and_renamed(tmp_path: Path) -> None:
    first, second, third = Run(), Run(seed=6), Run(seed=7)
    first.step(range(4))
    second.step(range(2))
    for run, name in ((first, "a"), (second, "b")):
        manager = run.manager(tmp_path / name)
        manager.save(9)
        manager.close()
    before = third.state()
    manager = third.manager(tmp_path / "c")
    with pytest.raises(StateMismatch, match=r"'tables/usr' fits no name.*tables/user"):
        manager.restore(load=["tables/usr"], sources=[tmp_path / "a"])
    assert third.state() == before
    restored = manager.restore(
        load=["tables/user", "tables/item"], rename={"tables/item": "tables/tags"}, sources=[tmp_path / "a"]
    )
    assert restored is not None
    assert restored.step == 0
    assert {"tables/item", "dense/tower.0.weight", "random"} <= set(restored.missing)
    here, there = third.tables(), first.tables()
    for mine, theirs in (("user", "user"), ("tags", "item")):
        assert torch.equal(here[mine].ids(), there[theirs].ids())
        assert torch.equal(here[mine].embeddings(), there[theirs].embeddings())
    assert len(here["item"]) == 0
    assert third.state()[1:] == before[1:]
    restored = manager.restore(
        load=["tables", "dense/tower.0.*"], exclude=["tables/tags"], sources=[tmp_path / "a", tmp_path / "b"]
    )
    assert torch.equal(here["user"].embeddings(), second.tables()["user"].embeddings())
    assert torch.equal(third.model.tower[0].weight, second.model.tower[0].weight)
    assert not torch.equal(third.model.tower[2].weight, second.model.tower[2].weight)
    assert len(here["tags"]) == len(there["item"])


def test_another_optimizer_starts_anew_and_says_so(tmp_path: Path) -> None:
    run, other = Run(), Run(kind="sgd")
    run.step(range(3))
    manager = run.manager(tmp_path)
    manager.save(3)
    manager.close()
    with pytest.warns(UserWarning, match="sparse optimizer starts anew"):
        restored = other.manager(tmp_path).restore()
    assert restored is not None
    assert restored.fresh == ["optimizer/sparse"]
    assert {"tables/user: slot m", "tables/user: slot v"} <= set(restored.ignored)
    assert torch.equal(other.tables()["user"].embeddings(), run.tables()["user"].embeddings())
    other.step(range(3, 5))
    back = Run()
    manager = other.manager(tmp_path)
    manager.save(5)
    manager.close()
    with pytest.warns(UserWarning, match="sparse optimizer starts anew"):
        restored = back.manager(tmp_path).restore()
    assert restored is not None
    assert "tables/user: slots m, v" in restored.fresh
    back.step(range(5, 6))
