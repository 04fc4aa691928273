"""Loops on fewer threads, and as before after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
import torch

from recis_core.backends.tier_loops.loop_threads import loop_threads
from recis_core.nn import CacheConfig, Prefetcher
from tests.tiers.training import engine_of
from tests.training.loop import random_batches

ALL = numba.config.NUMBA_NUM_THREADS


def now() -> tuple[int, int]:
    return torch.get_num_threads(), numba.get_num_threads()


@pytest.fixture(autouse=True)
def many() -> Iterator[None]:
    before = now()
    torch.set_num_threads(4)
    numba.set_num_threads(ALL)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


def test_inside_and_after() -> None:
    with loop_threads(1):
        assert now() == (1, 1)
    assert now() == (4, ALL)
    with loop_threads(None):
        assert now() == (4, ALL)
    with loop_threads(3):
        assert now() == (3, min(3, ALL))
    assert now() == (4, ALL)


def test_after_an_error() -> None:
    with pytest.raises(KeyError), loop_threads(1):
        raise KeyError
    assert now() == (4, ALL)


def test_a_wrong_count_spoils_no_later_one() -> None:
    wrong: Any = 1.5
    with pytest.raises(RuntimeError, match="expects an int"), loop_threads(wrong):
        raise AssertionError("it was taken")
    with loop_threads(1):
        assert now() == (1, 1)
    assert now() == (4, ALL)


def test_more_than_there_were_is_what_there_were() -> None:
    with loop_threads(1000):
        assert now() == (4, ALL)


def test_blocks_that_end_in_another_order() -> None:
    first, second = loop_threads(2), loop_threads(1)
    first.__enter__()
    second.__enter__()
    assert now() == (1, 1)
    first.__exit__(None, None, None)
    assert now() == (1, 1)
    second.__exit__(None, None, None)
    assert now() == (4, ALL)


def test_a_prefetcher_lowers_them_while_it_gives_batches() -> None:
    engine, batches = engine_of(CacheConfig(device_rows=24, policy="lru")), random_batches(6)
    seen = []
    for batch in Prefetcher(engine, batches, 2, threads=1):
        engine(batch)
        seen.append(now())
    assert seen == [(1, 1)] * 6
    assert now() == (4, ALL)
    for _ in Prefetcher(engine, batches, 2, threads=1):
        break
    assert now() == (4, ALL)
    with pytest.raises(ValueError, match=r"threads must be at least 1; got 0\."):
        Prefetcher(engine, batches, 2, threads=0)


NEW_TABLE = """
import json, numba, torch
from recis_core import backends
before = torch.get_num_threads()
backend, ids = backends.get("numba"), torch.arange(5)
state = backend.create(backends.TableSpec(4, (1,)))
state, rows, _ = backend.lookup(state, ids, ids.int() * 0, mode=backends.LookupMode(), clock=backends.Clock())
backend.gather(state, rows, ids, ids.int() * 0)
numba.threading_layer()  # raises if no loop has started it
print(json.dumps([before, torch.get_num_threads(), numba.get_num_threads()]))
"""


def test_torch_keeps_its_count_when_the_first_loop_starts() -> None:
    """In a new process: numba's threads start once, and OpenMP counts for both."""
    counts = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", NEW_TABLE], cwd=Path(__file__).parents[2], env={**os.environ, **counts},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [1, 1, 3]
