"""Names in a directory of states. A state appears whole, by one rename.

DIR/step-00000100            a state; states are ordered by their numbers
    .step-00000100.writing   a state that is being written, or a former state that is being removed
    .step-00000100.gone      a state that a policy does not keep, while its files are removed
    .step-00000100.old       the former state during a replacement, if the file system cannot swap names
    .saving                  the lock, if the file system cannot lock directories

One process at a time writes. The next save removes what a dead process left. If a step has only a state in .old, that is
the state of the step, for readers and for the next save.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from recis_core.backends.errors import StorageInUse
from recis_core.durable import make_directory, open_regular, sync_directory
from recis_core.serialize.swap_names import swap_names
from recis_core.uninterrupted import uninterrupted

STATE = re.compile(r"step-([0-9]+)")
LEFT = re.compile(r"\.(step-[0-9]+)\.(writing|gone|old)")
NO_LOCKS = {errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


def state_name(step: int) -> str:
    return f"step-{step:08d}"


def aside_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.writing")


def old_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def step_of(path: Path) -> int | None:
    """The step in a state's name; None for other names."""
    return step_of_name(path.name)


def step_of_name(name: str) -> int | None:
    found = STATE.fullmatch(name) or LEFT.fullmatch(name)
    return None if found is None else int(found[1].removeprefix("step-"))


def states_in(directory: Path) -> list[Path]:
    """All paths with a state's name, by step; also those that hold no state, which must raise later."""
    names = os.listdir(directory)
    states = [directory / name for name in names if STATE.fullmatch(name)]
    stranded = [(directory / name, found[1]) for name in names if (found := LEFT.fullmatch(name)) and found[2] == "old"]
    states += [old for old, final in stranded if final not in names]
    return sorted(states, key=lambda path: (step_of(path), path.name))


@contextmanager
def saving(final: Path) -> Iterator[Path]:
    """An empty directory beside `final` to write the state in; removed at the end. Holds the lock. Signals come where parts
    are written (part_writers.py) or ranks wait for each other, and at the end.

    Raises:
      StorageInUse: another process or thread is saving there. OSError: the directory cannot be made.
    """
    with uninterrupted(), _made_and_locked(final.parent):
        _remove_left(final.parent)
        if final.is_symlink() or (final.exists() and not final.is_dir()):
            raise NotADirectoryError(
                errno.ENOTDIR, "A file or link stands where a state's directory belongs", str(final)
            )
        aside = aside_of(final)
        try:
            make_directory(aside, exist_ok=False)
            yield aside
        finally:
            _remove(aside)


@contextmanager
def _made_and_locked(directory: Path) -> Iterator[None]:
    make_directory(directory)
    with _locked(directory):
        yield


def place(aside: Path, final: Path) -> None:
    """Put the state in `aside` in the place of `final`."""
    sync_directory(aside)
    if not final.exists():
        aside.rename(final)
    elif not swap_names(aside, final):
        _take_over(aside, final)
    sync_directory(final.parent)


def _take_over(aside: Path, final: Path) -> None:
    old = old_of(final)
    with uninterrupted():
        final.rename(old)
        try:
            aside.rename(final)
        except BaseException:
            old.rename(final)
            raise
        _remove(old)


def remove_state(state: Path, later: Callable[[Callable[[], None]], None] = lambda remove: remove()) -> None:
    """Rename the state, then remove it, so that readers never find half a state. A missing state is ignored.

    later: is given the call that removes the files.
    """
    gone = state.with_name(f".{state.name}.gone")
    with _locked(state.parent):
        _remove(gone)
        try:
            state.rename(gone)
        except FileNotFoundError:
            return
    later(partial(_remove, gone))


def _remove_left(directory: Path) -> None:
    for name in os.listdir(directory):
        if found := LEFT.fullmatch(name):
            if found[2] == "old" and not os.path.lexists(directory / found[1]):
                (directory / name).rename(directory / found[1])
            else:
                _remove(directory / name)


def _remove(path: Path) -> None:
    """Remove a file, link or directory. What cannot be removed now is left to the next save."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        with uninterrupted():  # an interrupt inside rmtree can make it close a directory twice
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock the open directory: this leaves no file, and ends with the process."""
    handles: list[int] = []
    try:
        with uninterrupted():  # so that neither handle nor lock is left behind
            handles.append(_lock_of(directory))
        yield
    finally:
        if handles:
            os.close(handles[0])


def _lock_of(directory: Path) -> int:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if _locks(handle, directory):
        return handle
    os.close(handle)
    handle = open_regular(directory / ".saving", os.O_RDWR | os.O_CREAT)
    _locks(handle, directory)
    return handle


def _locks(handle: int, directory: Path) -> bool:
    """Lock; returns False if the file system cannot lock directories."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        os.close(handle)
        if not isinstance(error, BlockingIOError):
            raise
        raise StorageInUse(
            f"another process is saving a state into {directory}. Give each run a directory of its own, or wait for it."
        ) from None
    return True
