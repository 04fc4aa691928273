"""Saving: at every instant the old state or the new one, whole; nothing left over; one process at a time; private files."""

from __future__ import annotations

import errno
import linecache
import multiprocessing
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from recis_core.backends.errors import StorageInUse
from recis_core.serialize import latest_state, part_file, save_state, state_directory, swap_names
from recis_core.serialize.state_directory import saving, state_name
from tests.dropped import later_if_dropped
from tests.serialize.states import FULL, STEP, content, mark_of, names

HERE = str(Path(state_directory.__file__).parent)
# What tidies up.
TIDIES = ("saving", "__exit__", "_locked", "_lock_of", "_locks", "_remove", "_take_over")
# Children only save. Python warns of threads, and JAX of its own where another test has loaded it.
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:os.fork:RuntimeWarning")


@pytest.fixture(params=["swapped", "renamed twice"])
def swaps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system cannot swap names."""
    if request.param == "renamed twice":
        monkeypatch.setattr(state_directory, "swap_names", lambda one, other: False)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill loses nothing that the system has; waiting for the disk would take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def lines_of_saving(directory: Path) -> int:
    """How many lines of ours a save of a step that is there runs."""
    count = 0

    def at_line(frame: FrameType) -> None:
        nonlocal count
        count += 1

    traced(at_line, lambda: save_state(directory, STEP, content(1)))
    return count


def traced(at_line: Callable[[FrameType], Any], work: Callable[[], Any]) -> None:
    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(HERE):
            return None
        if event == "line":
            at_line(frame)
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)


def line_of(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()


def chosen(lines: int) -> list[int]:
    """Every line in full, else some, the last ones, where names change, densely."""
    return [n for n in range(1, lines + 1) if FULL or n % 16 == 0 or (n > lines - 60 and n % 3 == 0)]


def in_a_child(work: Callable[[], Any]) -> int:
    """How it ended."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying_at(line: int) -> Callable[[FrameType], None]:
    left = line

    def at_line(frame: FrameType) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    return at_line


@FORKS
@pytest.mark.usefixtures("swaps", "unsynced")
def test_a_kill_at_any_line_leaves_a_state(there: Path) -> None:
    """The old one before some line, the new one from it on; the next save removes what the dead one left."""
    lines, marks = lines_of_saving(there), []
    for line in chosen(lines):
        save_state(there, STEP, content(1))
        assert names(there) == [f"step-{STEP:08d}"]
        ended = in_a_child(lambda line=line: traced(dying_at(line), lambda: save_state(there, STEP, content(2))))
        assert ended == -signal.SIGKILL
        marks.append(mark_of(there))
    assert marks == sorted(marks)
    assert set(marks) == {1, 2}
    save_state(there, STEP + 1, content(3))
    assert names(there) == [f"step-{STEP:08d}", f"step-{STEP + 1:08d}"]


WRITER = """
import sys, torch
from recis_core.serialize import save_state
print("ready", flush=True)
for mark in range(2, 10**9):
    state = {"x": {"mark": mark, "t": torch.full((2000,), mark)}, "y": {"t": torch.full((3,), mark)}}
    for step in (9, 10):
        save_state(sys.argv[1], step, state)
"""


@FORKS
@pytest.mark.usefixtures("unsynced")
def test_kills_of_a_process_that_saves_again_and_again(there: Path) -> None:
    """Two steps in turn, each replaced while it is there, killed at random times."""
    rng, last = random.Random(0), 1
    for _ in range(200 if FULL else 8):
        child = os.fork()
        if not child:
            try:
                sys.argv = ["", str(there)]
                os.close(1)
                os.open(os.devnull, os.O_WRONLY)
                exec(WRITER.replace("range(2,", f"range({last + 1},"), {})
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0.005, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        now = mark_of(there)
        assert now >= last
        last = now
    assert last > 1
    save_state(there, 11, content(3))
    assert not [name for name in names(there) if name.startswith(".")]


# Interrupts and errors


def raising_at(line: int, error: BaseException | None) -> Callable[[FrameType], None]:
    """An error; a signal, if None."""
    left = line

    def at_line(frame: FrameType) -> None:
        nonlocal left
        left -= 1
        if not left:
            sys.settrace(None)
            if frame.f_code.co_name in TIDIES or line_of(frame).startswith("with "):
                return  # a signal comes between two of its calls, not before a line, nor between a `with` and its end
            if error is None:
                signal.raise_signal(signal.SIGINT)
            else:
                raise error

    return at_line


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("swaps", "unsynced")
@pytest.mark.parametrize("error", [None, MemoryError("short"), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupt_or_error_at_any_line_leaves_one_state_and_nothing_else(there: Path, error: Any) -> None:
    for line in chosen(lines_of_saving(there)):
        save_state(there, STEP, content(1))
        with suppress(KeyboardInterrupt, MemoryError, OSError):
            traced(raising_at(line, error), lambda: save_state(there, STEP, content(2)))
        assert names(there) == [f"step-{STEP:08d}"]
        assert mark_of(there) in (1, 2)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("swaps", "unsynced")
def test_interrupts_at_random_instants(there: Path) -> None:
    """By a timer's signal, in the midst of any call."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not later_if_dropped(frame):
            raise KeyboardInterrupt

    before, rng, interrupted, took = signal.signal(signal.SIGALRM, interrupt), random.Random(0), 0, 0.003
    try:
        for _ in range(1000 if FULL else 100):
            begin = time.perf_counter()
            save_state(there, STEP, content(1))
            took = (took + time.perf_counter() - begin) / 2
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, took))
                save_state(there, STEP, content(2))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            assert names(there) == [f"step-{STEP:08d}"]
            assert mark_of(there) in (1, 2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 10


def test_no_thread_writes_on_after_an_interrupt(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would write into the directory of the next save."""
    real = part_file._write

    def slow(file: Any, *args: Any, **how: Any) -> None:
        if threading.current_thread() is not threading.main_thread() and not interrupted.is_set():
            interrupted.set()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        real(file, *args, **how)

    before = set(threading.enumerate())
    for _ in range(3):
        interrupted = threading.Event()
        monkeypatch.setattr(part_file, "_write", slow)
        with pytest.raises(KeyboardInterrupt):
            save_state(there, STEP, content(2))
        assert set(threading.enumerate()) <= before
        assert names(there) == [f"step-{STEP:08d}"]
        assert mark_of(there) == 1
    monkeypatch.setattr(part_file, "_write", real)
    save_state(there, STEP, content(2))
    assert mark_of(there) == 2


@pytest.mark.parametrize("at", range(1, 12))
def test_a_full_disk_leaves_the_state_before(there: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """From any write or sync on."""
    left = at

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **how: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **how)

        return call

    monkeypatch.setattr(part_file, "_write", failing(part_file._write))
    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    with suppress(OSError):
        save_state(there, STEP, content(2))
    assert names(there) == [f"step-{STEP:08d}"]
    assert mark_of(there) in (1, 2)


def test_a_disk_that_is_full_in_earnest(there: Path) -> None:
    """By a limit on the size of files."""
    text = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); sys.argv[1:] = [{str(there)!r}]\n"
    done = subprocess.run([sys.executable, "-c", text + WRITER], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert names(there) == [f"step-{STEP:08d}"]
    assert mark_of(there) == 1


# Where names cannot be swapped


def test_a_state_that_was_set_aside_is_found_and_put_back(there: Path) -> None:
    """After a kill between two renames."""
    final = Path(there) / state_name(STEP)
    save_state(there, 3, content(3))
    final.rename(there / f".{final.name}.old")
    assert latest_state(there).name == f".{final.name}.old"
    assert mark_of(there) == 1
    assert mark_of(final) == 1
    save_state(there, 4, content(4))
    assert names(there) == ["step-00000003", "step-00000004", final.name]
    assert latest_state(there) == final
    assert mark_of(there) == 1


def test_names_are_swapped_at_once_where_the_system_can(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.touch()
    if not swap_names.swap_names(one, other):
        pytest.skip("no renameat2 here")
    assert other.is_dir()
    assert one.is_file()
    with pytest.raises(FileNotFoundError):
        swap_names.swap_names(one, tmp_path / "nowhere")


# Two at once


@pytest.fixture(params=["directory", "file"])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where directories cannot be locked, as on NFS."""
    if request.param == "file":
        real = state_directory.fcntl.flock

        def flock(handle: int, how: int) -> None:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(errno.EBADF, "Bad file descriptor")
            real(handle, how)

        monkeypatch.setattr(state_directory.fcntl, "flock", flock)


def _save_elsewhere(directory: Path, answers: Any) -> None:
    try:
        save_state(directory, 10, {})
        answers.put("saved")
    except StorageInUse as error:
        answers.put(str(error))


@FORKS
@pytest.mark.usefixtures("locks")
def test_two_that_save_at_once_are_told_and_harm_nothing(there: Path) -> None:
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    with saving(Path(there) / state_name(11)) as aside:
        (aside / "mine").touch()
        with pytest.raises(StorageInUse, match="another process is saving a state into"):
            save_state(there, 10, {})
        other = fork.Process(target=_save_elsewhere, args=(there, answers))
        other.start()
        assert "another process is saving a state into" in answers.get()
        other.join()
        assert (aside / "mine").exists()
    save_state(there, 10, {})
    assert [n for n in names(there) if n != ".saving"] == ["step-00000009", "step-00000010"]
