"""Compilation is told on the log when it happens, and alone then."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from recis_core.backends import compiling
from recis_core.backends.compiling import Compiling


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(compiling.time, "monotonic", lambda: Clock.now)
    return Clock


def lines(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_burst_begins_with_a_line_and_goes_on_every_few_seconds(clock, caplog):
    caplog.set_level(logging.INFO, "recis_core")
    numba = Compiling("numba", "loops", nests=True, usual=80)
    for name, seconds in (("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 1.0)):
        numba.begins(name, "numba compiles")
        numba.begins(f"inside {name}", "never")
        numba.ends()
        clock.now += seconds
        numba.ends()
        clock.now += 0.1
    assert lines(caplog) == [
        "numba compiles",
        "numba has compiled 4 of about 80 loops, 2 s so far; now c",
        "numba has compiled 6 of about 80 loops, 4 s so far; now d",
    ]
    assert (numba.seconds, numba.count) == (pytest.approx(5.0), 8)
    clock.now += 60
    numba.begins("e", "numba compiles e")
    assert lines(caplog)[-1:] == ["numba compiles e"]


def test_growth_is_news_also_right_after_other_programs(clock, caplog):
    caplog.set_level(logging.INFO, "recis_core")
    jax = Compiling("jax", "programs", nests=False)
    for name, opening in (("embed", "first"), ("more_rows", "grows"), ("more_rows", "grows"), ("embed", "sizes")):
        jax.begins(name, opening, news=opening == "grows")
        clock.now += 2.0
        jax.ends()
    assert lines(caplog) == ["first", "grows", "jax has compiled 2 programs, 4 s so far; now embed"]


def test_one_that_failed_does_not_stay_open(clock, caplog):
    caplog.set_level(logging.INFO, "recis_core")
    jax = Compiling("jax", "programs", nests=False)
    jax.begins("a", "jax compiles")
    clock.now += 1
    jax.begins("b", "again")
    clock.now += 1
    jax.ends()
    jax.ends()
    assert (jax.seconds, jax.count) == (1.0, 1)
    clock.now += 60
    jax.begins("c", "later")
    assert lines(caplog)[-1] == "later"


FILL = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
import numpy as np
from numba import njit
from recis_core.backends.compiling import NUMBA, compiling_seconds
from recis_core.backends.numba_backend.hashing import fill_slices

njit(lambda x: x + 1)(1)  # a user's own loop is none of ours
tables = np.zeros(3, np.int32)
fill_slices(np.arange(3), tables, np.zeros(1, np.uint32), np.zeros(3, np.int32))
print("compiled", NUMBA.count > 0, compiling_seconds() > 0)
"""


def test_numba_is_told_when_the_cache_is_cold_and_alone_then(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    cold, warm = (
        subprocess.run([sys.executable, "-c", FILL], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    opening = "recis_core.backends.compiling: numba compiles its loops, once for this machine: about half a minute"
    assert cold.splitlines() == [f"{opening} on an idle one", "compiled True True"]
    assert warm == "compiled False False\n"


def test_jax_is_told_too(caplog, monkeypatch):
    from recis_core.backends.jax_backend import programs
    from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS

    monkeypatch.setattr(programs, "JAX", Compiling("jax", "programs", nests=False))
    caplog.set_level(logging.INFO, "recis_core")
    words = programs.Programs(XLA_LOOPS).words
    for _ in range(2):
        words(np.zeros(8, np.int32), np.zeros(8, np.int32))
    said = lines(caplog)
    assert said[0].startswith("jax compiles its programs for the sizes of these batches and tables: about 20 s")
    assert (len(said), programs.JAX.count) == (1, 1)
    assert programs.JAX.seconds > 0
    assert "a table grows" in programs._opening("grown")
