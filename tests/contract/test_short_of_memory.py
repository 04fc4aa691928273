"""Under a limit of memory a table that cannot grow says MemoryError, is as it was, and goes on when there is memory again."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


@pytest.mark.parametrize("kind", ["data", pytest.param("address", marks=pytest.mark.full)])
@pytest.mark.parametrize("name", ["numba", pytest.param("torch", marks=pytest.mark.full)])
def test_a_table_that_cannot_grow(name: str, kind: str) -> None:
    """In a process of its own: a limit holds for all of it."""
    command = [sys.executable, "-m", "tests.contract.short_of_memory", name, kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r"refused (\d+) times", done.stdout)
    assert found, done.stdout
    assert int(found[1]) > 0, done.stdout
