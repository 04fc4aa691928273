"""Saving: at every instant the old state or the new one, whole; nothing left over; one process at a time; private files."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from recis_core.backends.errors import CorruptCheckpoint, StorageInUse
from recis_core.serialize import latest_state, load_state, part_file, save_state, state_directory, swap_names
from recis_core.serialize.state_directory import saving, state_path
from tests.serialize.states import FULL, STATE, same, saved

HERE = str(Path(state_directory.__file__).parent)
STEP = 9
# Children only save. Python warns of threads, and JAX of its own where another test has loaded it.
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:os.fork:RuntimeWarning")


def content(mark: int) -> dict[str, Any]:
    return {"x": {"mark": mark, "t": torch.full((2000,), mark)}, "y": {"t": torch.full((3,), mark)}}


def mark_of(directory: Path) -> int:
    """Which content the latest state has, all of it."""
    state = load_state(latest_state(directory))
    mark = state["x"]["mark"]
    assert same(state, content(mark))
    return mark


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


@pytest.fixture(params=["swapped", "renamed twice"])
def swaps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system cannot swap names."""
    if request.param == "renamed twice":
        monkeypatch.setattr(state_directory, "swap_names", lambda one, other: False)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill loses nothing that the system has; waiting for the disk would take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    save_state(tmp_path, STEP, content(1))
    return tmp_path


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
            if frame.f_code.co_name in ("saving", "_locked", "_lock_of", "_locks", "_remove", "_take_over"):
                return  # what tidies up; a signal comes between two of its calls, not before a line
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

    def interrupt(number: int, frame: object) -> None:
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


@pytest.mark.parametrize("at", range(1, 12))
def test_a_full_disk_leaves_the_state_before(there: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """From any write or sync on."""
    left = at

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args)

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
    final = state_path(there, STEP)
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
    with saving(state_path(there, 11)) as aside:
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


# Names and places


def test_states_are_ordered_by_number(tmp_path: Path) -> None:
    for step in (10**8, 99_999_999, 5, 10**8 + 1, 999_999_999):
        save_state(tmp_path, step, {"x": {"step": step}})
        assert load_state(latest_state(tmp_path))["x"]["step"] == max(s for s in (step, 10**8) if s >= step)
    assert latest_state(tmp_path).name == "step-999999999"


def test_other_numbers_of_digits_count_and_other_names_do_not(tmp_path: Path) -> None:
    for name in (
        "step-abc",
        "step-",
        "step-1.old",
        "step-99x",
        "xstep-99",
        "step-9 ",
        "step--9",
        "step-9.9",
        "step-٩٩",
        "Step-99",
    ):
        (tmp_path / name).mkdir()
    with pytest.raises(FileNotFoundError, match="holds no saved state"):
        latest_state(tmp_path)
    save_state(tmp_path, 7, content(7)).rename(tmp_path / "step-7")
    save_state(tmp_path, 10, content(10)).rename(tmp_path / "step-0000000000010")
    assert latest_state(tmp_path).name == "step-0000000000010"
    assert mark_of(tmp_path) == 10
    shutil.rmtree(tmp_path / "step-0000000000010")
    assert mark_of(tmp_path) == 7


@pytest.mark.parametrize("lost", ["manifest.json", "everything"])
def test_a_newest_state_that_is_damaged_is_told_of_and_not_passed_over(tmp_path: Path, lost: str) -> None:
    older, newest = saved(tmp_path, 3), saved(tmp_path, 4)
    for file in newest.iterdir():
        if lost in ("everything", file.name):
            file.unlink()
    for asked in (tmp_path, newest):
        with pytest.raises(CorruptCheckpoint, match=r"lacks manifest\.json"):
            latest_state(asked)
    with pytest.raises(CorruptCheckpoint, match=f"the newest state .* name an older one .{older}., or remove it"):
        latest_state(tmp_path)
    shutil.rmtree(newest)
    assert same(load_state(latest_state(tmp_path)), STATE)


def test_a_state_under_another_step_s_name_is_told_of(tmp_path: Path) -> None:
    saved(tmp_path, 3).rename(tmp_path / "step-00000030")
    with pytest.raises(CorruptCheckpoint, match="is of step 3"):
        latest_state(tmp_path)
    (tmp_path / "step-00000030").rename(tmp_path / "best")
    assert same(load_state(latest_state(tmp_path / "best")), STATE)


@pytest.mark.parametrize("step", [-1, 1.0, True, "3", None, 10**30])
def test_a_step_is_a_number_of_steps(tmp_path: Path, step: Any) -> None:
    with pytest.raises(ValueError, match="a state's step is an int"):
        save_state(tmp_path / "new", step, STATE)
    assert not (tmp_path / "new").exists()


CANNOT: dict[str, tuple[Any, type[Exception], str]] = {
    "a function": ({"x": {"f": [print]}}, TypeError, "state at /f/0 is a builtin_function"),
    "a key of a tuple": ({"x": {(1, 2): 3}}, TypeError, "has a key of tuple"),
    "a sparse tensor": ({"x": torch.eye(3).to_sparse()}, TypeError, "only plain strided tensors"),
    "a meta tensor": ({"x": torch.empty(3, device="meta")}, TypeError, "only plain strided tensors"),
    "complex128": ({"x": torch.zeros(3, dtype=torch.complex128)}, TypeError, "only plain strided tensors"),
    "a long integer": ({"x": 1 << 5000}, ValueError, "integer of 5001 bits"),
    "itself": ({"x": (loop := [1], loop.append(loop))}, ValueError, "nested deeper than 64"),
    "a part of a number": ({3: {}}, TypeError, "names of a state's parts are strings"),
    **{
        f"a part {n!r}": ({n: {}}, ValueError, "a part's name is a file's")
        for n in ("../x", "/x", "a/b", "a\0b", "..", "")
    },
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_be_saved_is_named_before_anything_is_written(tmp_path: Path, case: str) -> None:
    state, kind, said = CANNOT[case]
    with pytest.raises(kind, match=said):
        save_state(tmp_path / "new", 1, state)
    assert not (tmp_path / "new").exists()


def test_too_much_beside_tensors_is_refused(there: Path) -> None:
    with pytest.raises(ValueError, match="beside its tensors; at most"):
        save_state(there, STEP, {"x": "a" * (1 << 26)})
    assert names(there) == ["step-00000009"]
    assert mark_of(there) == 1


def test_unlike_keys_of_like_names_do_not_meet(tmp_path: Path) -> None:
    """Tensors are named by their paths, which may be written alike."""
    t = [torch.full((2,), float(i)) for i in range(6)]
    state = {
        "x": {3: t[0], "3": t[1], "a/b": t[2], "a": {"b": t[3]}, "3'": t[4]},
        "y": t[5],
        "shared": [t[0], t[0][:1]],
    }
    assert same(load_state(save_state(tmp_path, 1, state)), state)


def test_every_dtype_comes_back_and_safetensors_reads_it(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = {"x": {name: torch.arange(5).to(dtype) for name, dtype in part_file.DTYPES.items()}}
    state["x"] |= {
        "odd": torch.arange(12).reshape(3, 4).T[::2],
        "conj": torch.tensor([1 + 2j]).conj(),
        "no": torch.zeros(0),
        "wide": torch.ones(1).expand(3),
        "wide of one": torch.ones(1).expand(1, 1),
        "wide of none": torch.ones(1).expand(0, 1),
        "0": torch.tensor(2),
    }
    path = save_state(tmp_path, 1, state)
    back, theirs = load_state(path)["x"], load_file(path / "x.safetensors")
    for name, want in state["x"].items():
        for got in (back[name], theirs[f"/{name}"]):
            assert got.dtype == want.dtype
            assert bytes(got.contiguous().reshape(-1).view(torch.uint8)) == bytes(
                want.resolve_conj().contiguous().reshape(-1).view(torch.uint8)
            )


def test_what_is_no_directory_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "elsewhere").mkdir()
    for name in ("file", "pipe"):
        with pytest.raises(OSError):
            save_state(tmp_path / name, 1, STATE)
    for name in ("file", "pipe", "link"):
        kept = tmp_path / "states" / "step-00000001"
        kept.parent.mkdir(exist_ok=True)
        (tmp_path / name).rename(kept)
        with pytest.raises(NotADirectoryError, match="stands where a state's directory belongs"):
            save_state(tmp_path / "states", 1, STATE)
        kept.rename(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path / "states") == names(tmp_path / "elsewhere") == []


def test_what_a_dead_save_left_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine").touch()
    states = tmp_path / "states"
    states.mkdir()
    (states / ".step-00000001.writing").symlink_to(kept)
    (states / ".step-00000002.writing").write_text("a file")
    (states / ".step-00000003.writing").mkdir()
    (states / ".step-00000003.writing" / "part").symlink_to(kept)
    saved(states, 1)
    assert names(states) == ["step-00000001"]
    assert names(kept) == ["mine"]


@pytest.mark.parametrize(
    ("asked", "file", "directory"), [("", 0o600, 0o700), ("644", 0o644, 0o755), ("640", 0o640, 0o750)]
)
def test_files_are_the_user_s_alone_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, file: int, directory: int
) -> None:
    monkeypatch.setenv("RECIS_FILE_MODE", asked)
    before = os.umask(0)
    try:
        path = saved(tmp_path / "states")
    finally:
        os.umask(before)
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path, *path.iterdir())}
    assert modes.pop(path.parent) == modes.pop(path) == directory
    assert set(modes.values()) == {file}
