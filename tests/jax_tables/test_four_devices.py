"""Four virtual devices are equal to one: in a process of its own, for JAX counts its devices once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_four_are_equal_to_one(kind: str) -> None:
    """explicit: a mesh whose shardings are part of arrays' types, which jax.make_mesh makes by default."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    command = [sys.executable, "-m", "tests.jax_tables.four_devices", kind]
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["programs"] == 2  # one device, and four
    assert told["rows"] > 100
    assert "1536 ids of tables item were not sent to their shards" in told["overflow"]
    assert "must divide by 4 shards; got [6]" in told["refused"]
