"""A full disk, a read-only one, no permission, at every operation on files: an error that names the file, the last
checkpoint whole, and training goes on."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest

from recis_core.errors import RecisError
from recis_core.serialize import DeltaPolicy, KeepLast, open_checkpoint
from tests.serialize.checkpoint.faults import Faults
from tests.serialize.checkpoint.runs import Run
from tests.serialize.states import FULL

CODES = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO)
KINDS: dict[str, dict[str, Any]] = {
    "behind": {"keep": KeepLast(2)},
    "at once": {"keep": KeepLast(2), "asynchronous": False},
    "delta": {"keep": KeepLast(2), "delta": DeltaPolicy(3)},
}
EVERY = {"mkdir", "open", "flock", "write", "fsync", "rename"}


@pytest.mark.parametrize("kind", KINDS if FULL else ["behind", "at once"])
def test_at_every_operation(tmp_path: Path, kind: str) -> None:
    """What fails behind the commit leaves the new checkpoint there, whole; what is removed then, the next save removes."""
    run, step, met = Run(), 1, set[str]()
    manager, states = run.manager(tmp_path, **KINDS[kind]), {}
    _trained(run, step, states)
    assert _failure_of(manager, step) is None
    for (only, at), code in zip(_places(), cycle(CODES), strict=False):
        _trained(run, step := step + 1, states)
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, tmp_path, at, code, only)
            error = _failure_of(manager, step)
        last = _last(tmp_path)
        assert last in states.items()
        if not faults.hit:
            assert error is None
            if only:
                continue  # this save had no third of them
            break
        assert error is not None or last[0] == step
        if error is not None:
            met.add(faults.hit)
            assert _system_error(error).errno == code
            assert str(tmp_path) in str(error)
        if FULL:
            _trained(run, step := step + 1, states)
            assert _failure_of(manager, step) is None
    assert met >= EVERY
    _trained(run, step := step + 1, states)
    assert _failure_of(manager, step) is None
    manager.close()
    assert manager.latest() == step
    assert all(name.startswith("step-") for name in os.listdir(tmp_path))


def _places() -> Iterator[tuple[str, int]]:
    """Every operation, until a save meets fewer; else the first and the third of each name."""
    if FULL:
        return (("", at) for at in count(1))
    return ((name, at) for name in sorted(EVERY) for at in (1, 3))


def _system_error(error: BaseException) -> OSError:
    """What came of the system: the error, or where a checkpoint could not be read, its cause."""
    while not isinstance(error, OSError):
        assert isinstance(error, RecisError)
        assert error.__cause__ is not None
        error = error.__cause__
    return error


def _trained(run: Run, step: int, states: dict[int, Any]) -> None:
    run.step([step])
    states[step] = run.state()


def _failure_of(manager: Any, step: int) -> BaseException | None:
    try:
        manager.save(step)
        manager.wait()
    except Exception as error:
        return error
    return None


def _last(directory: Path) -> tuple[int, Any]:
    open_checkpoint(directory).verify()
    again = Run(seed=9)
    restored = again.manager(directory).restore()
    assert restored is not None
    return restored.step, again.state()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system itself ends writes there: Python ignores SIGXFSZ, so that EFBIG comes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_file_that_the_system_lets_grow_no_further(tmp_path: Path, size: int, asynchronous: bool) -> None:
    run = Run()
    manager = run.manager(tmp_path, asynchronous=asynchronous)
    run.step([0])
    manager.save(1)
    manager.wait()
    state = run.state()
    run.step([1])
    with files_of_at_most(size):
        error = _failure_of(manager, 2)
    assert isinstance(error, OSError)
    assert error.errno == errno.EFBIG
    assert _last(tmp_path) == (1, state)
    run.step([2])
    manager.save(3)
    manager.close()
    assert manager.steps() == [1, 3]
    assert _last(tmp_path) == (3, run.state())
