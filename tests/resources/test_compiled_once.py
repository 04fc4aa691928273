"""Processes that start together compile numba's loops once among them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recis_core.backends.numba_backend import compiled_once

LOOPS = """
import json, sys
from recis_core.backends.numba_backend.compiled import compiled, inlined

@inlined
def square(x):
    return x * x

@compiled
def squares(n):
    total = 0
    for i in range(n):
        total += square(i)
    return total

@compiled
def twice(n):
    return squares(n) + squares(n)

if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    result = twice(10)
    print(json.dumps([result, *(sum(loop.stats.cache_misses.values()) for loop in (twice, squares, square))]))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": os.getcwd()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, str(folder / "loops.py")], env=environment, **pipes)  # type: ignore[call-overload, no-any-return]


def test_processes_that_start_together_compile_a_loop_once(tmp_path: Path) -> None:
    (tmp_path / "loops.py").write_text(LOOPS)  # once: a process that reads the file must find it whole
    processes = [start(tmp_path) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [json.loads(process.communicate()[0]) for process in processes]
    assert [result for result, *_ in said] == [570] * 3
    assert [sum(misses) for misses in list(zip(*said, strict=True))[1:]] == [1, 1, 1]


def test_a_process_that_was_stopped_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holder = f"""
import time
from recis_core.backends.numba_backend.compiled_once import _alone
with _alone({str(tmp_path)!r}, 7):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(compiled_once, "LONGEST", 0.1)
        monkeypatch.setattr(compiled_once, "WORD", 0.01)
        caplog.set_level("INFO", "recis_core")
        entered = []
        with compiled_once._alone(str(tmp_path), 7):
            entered.append(True)
        handle = compiled_once._handle(str(tmp_path), os.getpid())
        assert entered
        assert handle is not None
        assert not compiled_once._wait(handle, 7)  # it is theirs still
        assert [r.getMessage() for r in caplog.records] == [
            "another process compiles numba's loops; this one waits for them"
        ]
        process.kill()
    assert compiled_once._wait(handle, 7)


def test_a_folder_that_takes_no_file_is_no_obstacle() -> None:
    entered = []
    with compiled_once._alone("/dev/null/no", 7):
        entered.append(True)
    assert entered
    assert compiled_once._handle("/dev/null/no", os.getpid()) is None
