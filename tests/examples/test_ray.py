"""Ray Train, in an environment of its own: make test-ray."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recis_core.serialize import open_checkpoint
from tests.examples.running import EXAMPLES

pytest.importorskip("ray.train", reason="ray is not installed here; make test-ray runs this in an environment with it")
ENV = {
    "PYTHONPATH": str(EXAMPLES.parent),
    "RECIS_BACKEND": "torch",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}


def printed(**arguments: object) -> tuple[int, int, int, float]:
    """(steps before, steps now, workers, AUC), as the example prints them in its last line."""
    words = [word for key, value in arguments.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    command = [sys.executable, str(EXAMPLES / "with_ray.py"), *words]
    done = subprocess.run(command, env=os.environ | ENV, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    found = re.fullmatch(r"(\d+) \+ (\d+) steps on (\d) workers, test AUC (0\.\d{4})", done.stdout.splitlines()[-1])
    assert found is not None, done.stdout
    return int(found[1]), int(found[2]), int(found[3]), float(found[4])


def test_two_workers_train_and_save_and_a_later_run_goes_on(tmp_path: Path) -> None:
    before, now, workers, auc = printed(steps=60, batch_size=128, workers=2, directory=tmp_path)
    assert (before, now, workers) == (0, 60, 2)
    assert auc > 0.55
    saved = open_checkpoint(tmp_path / "checkpoints")
    assert saved.step == 60
    assert {"random.rank-0", "random.rank-1"} <= set(saved.parts)  # each worker's own
    assert sum(table.rows for table in saved.tables.values()) > 500
    assert printed(steps=80, batch_size=128, workers=2, directory=tmp_path)[:3] == (60, 20, 2)
