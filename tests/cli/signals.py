"""`recis …` as a process that gets signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT = 120  # seconds
# The handlers are there from here on; before, Python itself starts.
BEGIN = "import sys; from recis_core.cli import main; print('begun', flush=True); sys.exit(main())"


def start(*argv: str, code: str = BEGIN, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """The command, about to begin."""
    settings = os.environ | {"RECIS_BACKEND": "numba", "PYTHONPATH": str(ROOT)} | (env or {})
    process = subprocess.Popen(
        [sys.executable, "-c", code, *argv], env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def end(process: subprocess.Popen[str], *signals: tuple[float, int]) -> tuple[int, list[str], list[str]]:
    """(exit status, lines of stdout, of stderr) after these signals, each so many seconds after what came before it."""
    for seconds, number in signals:
        time.sleep(seconds)
        process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out.splitlines(), err.splitlines()


def final(lines: Sequence[str]) -> dict[str, Any]:
    return json.loads(lines[-1])
