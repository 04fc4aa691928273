"""Whatever comes in place of a stream: an error of ours or nothing, bounded memory, tables as before, and the writer goes on."""

import json
import os
import subprocess
import sys

import pytest

from recis_core.serving.reader_bounds import CONSTANT
from tests.serving.hostile import CASES
from tests.serving.hostile_runs import FEW, PLACES, ROADS

QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


def runs(size):
    command = [sys.executable, "-m", "tests.serving.hostile_runs", size]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=QUIET)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("size", ["small", *(pytest.param(place, marks=pytest.mark.full) for place in PLACES)])
def test_hostile_streams(size):
    seen = runs(size)
    assert len(seen) == (len(FEW) if size == "small" else len(CASES) * len(ROADS))
    for one in seen:
        assert one["same"], one
        assert one["goes_on"], one
        assert one["grown"] <= 2 * one["sent"] + CONSTANT, one
    assert sum(bool(one["errors"]) for one in seen) > 0.7 * len(seen)
