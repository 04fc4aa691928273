"""One file, examples/torchrec_port.py, trained by TorchRec and by recis-core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
RUN = """
import json, runpy, sys
program = runpy.run_path("examples/torchrec_port.py")
losses = program["main"](50, 128)
print(json.dumps([program["EmbeddingBagCollection"].__module__, losses]))
"""


def run(*arguments: str) -> tuple[str, list[float]]:
    """Where the program's classes are from, and its losses."""
    command = [sys.executable, "-W", "ignore", "-c", RUN, *arguments]
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    home, losses = json.loads(done.stdout.splitlines()[-1])
    return home, losses


def test_both_give_the_same_losses() -> None:
    (our_home, ours), (their_home, theirs) = run(), run("--by-torchrec")
    assert our_home.startswith("recis_core.")
    assert their_home.startswith("torchrec.")
    assert len(ours) == 50
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert sum(ours[-10:]) < sum(ours[:10])
