"""Scratch: it has no names, ends with its process, and is nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recis_core.nn import EmbeddingEngine
from recis_core.table.tiers import disk_place
from tests.tiers.training import adam, adam_of, assert_same_engines, cache_in, engine_of, tiers_of
from tests.training.loop import random_batches, train

ROOT = Path(__file__).parents[2]
TRAINS = """
import sys, time
from tests.tiers.training import adam, cache_in, engine_of, tiers_of
from tests.training.loop import random_batches, train
engine = engine_of(cache_in(sys.argv[1], 8, 12))
train(engine, adam(engine), random_batches(8))
assert len(tiers_of(engine).lower.disk)
print("trained", flush=True)
time.sleep(60)
"""


def trained(folder: Path) -> EmbeddingEngine:
    engine = engine_of(cache_in(folder))
    train(engine, adam(engine), random_batches(4))
    return engine


def test_two_engines_share_a_directory_and_leave_nothing_there(tmp_path: Path) -> None:
    engines = [trained(tmp_path), trained(tmp_path)]
    assert list(tmp_path.iterdir()) == []
    for engine in engines:
        train(engine, adam_of(engine), random_batches(4, seed=1))
    assert_same_engines(*engines)
    for engine in engines:
        engine.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_ends_in_any_way_leaves_nothing_there(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINS, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "trained\n"
    process.send_signal(number)
    assert process.wait() == -number
    process.stdout.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lock", [True, False])
def test_scratch_of_earlier_versions_that_nobody_holds_is_removed(tmp_path: Path, lock: bool) -> None:
    """Though a process with its id lives, as after a restart of a container; and half removed, too."""
    path = tmp_path / f"table-0-{os.getpid()}-0{disk_place.SCRATCH}"
    path.mkdir()
    (path / "segment-00000001.rows").touch()
    if lock:
        (path / "lock").touch()
    engine = trained(tmp_path)
    assert not path.exists()
    engine.close()


def test_a_link_that_looks_like_scratch_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / f"table-0-0{disk_place.SCRATCH}").symlink_to(elsewhere)
    trained(tmp_path / "disk").close()
    assert [path.name for path in elsewhere.iterdir()] == ["file"]


def test_scratch_whose_directory_goes_says_so_and_keeps_its_rows(tmp_path: Path) -> None:
    """What lies on disk is read as ever; a new file finds no place."""
    engine, plain = trained(tmp_path / "disk"), engine_of()
    train(plain, adam(plain), random_batches(4))
    (tmp_path / "disk").rmdir()
    assert_same_engines(engine, plain)
    assert tiers_of(engine).lower.disk is not None
    engine.close()
