"""Scratch in a directory that processes share, which may not see each other's ids."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.nn import EmbeddingEngine
from recis_core.table.disk import disk_store
from recis_core.table.tiers import disk_place
from tests.tiers.training import adam, cache_in, engine_of, random_batches, tiers_of, train

OF_NOBODY = 2**22 + 1  # larger than any process id


def trained(folder: Path) -> EmbeddingEngine:
    engine = engine_of(cache_in(folder))
    train(engine, adam(engine), random_batches(4))
    return engine


def test_scratch_is_kept_whatever_its_process_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a process in another container, whose id is nobody's here."""
    with monkeypatch.context() as patched:
        patched.setattr(disk_place.os, "getpid", lambda: OF_NOBODY)
        theirs = trained(tmp_path)
    path = tiers_of(theirs).lower.disk.path
    assert str(OF_NOBODY) in path.name
    weights = theirs.table("f").snapshot().weights
    mine = trained(tmp_path)
    assert path.exists()
    theirs.flush()
    assert torch.equal(theirs.table("f").snapshot().weights, weights)
    for engine in (mine, theirs):
        engine.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lock", [True, False])
def test_scratch_that_nobody_holds_is_removed(tmp_path: Path, lock: bool) -> None:
    """Though a process with its id lives, as after a restart of a container; and half removed, too."""
    path = tmp_path / f"table-0-{os.getpid()}-0{disk_place.SCRATCH}"
    path.mkdir()
    (path / "segment-00000001.rows").touch()
    if lock:
        (path / "lock").touch()
    engine = trained(tmp_path)
    assert not path.exists()
    assert list(tmp_path.iterdir()) == [tiers_of(engine).lower.disk.path]
    engine.close()


def test_nobody_looks_for_scratch_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, made = disk_store.lock_directory, []

    def lock_directory(path: Path) -> int:
        handle = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
        made.append(path)
        return original(path)

    monkeypatch.setattr(disk_store, "lock_directory", lock_directory)
    engines: list[Any] = [trained(tmp_path), trained(tmp_path)]  # the second may have it after the first
    assert made == [tiers_of(engine).lower.disk.path for engine in engines]
    for engine in engines:
        engine.close()
