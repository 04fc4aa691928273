"""The cache bench measures what it says: Belady's optimum is one, policies do not beat it, and rows are what they should be.

Sizes: U keys of a call, V keys of a trace.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from recis_core.bench.cache import belady, traces
from recis_core.bench.cache.hits import POLICIES, Replay
from recis_core.bench.cache.large import Sizes, large
from recis_core.bench.cache.run import run
from recis_core.bench.cache.steps import Case, compare
from recis_core.nn import CacheConfig


def fewest_misses(calls: list[np.ndarray], keys: int, rows: int) -> int:
    """By trying every choice of who stays."""

    @cache
    def from_here(number: int, here: frozenset[int]) -> int:
        if number == len(calls):
            return 0
        asked = frozenset(calls[number].tolist())
        others = here - asked
        room = min(len(others), rows - len(asked))
        stays = (asked | frozenset(kept) for kept in combinations(sorted(others), room))
        return len(asked - here) + min(from_here(number + 1, each) for each in stays)

    return from_here(0, frozenset())


@pytest.mark.parametrize("seed", range(20))
def test_belady_is_the_optimum(seed: int) -> None:
    random = np.random.default_rng(seed)
    calls = [random.choice(7, random.integers(1, 4), replace=False) for _ in range(8)]
    rows = int(random.integers(3, 5))
    assert belady.misses(calls, 7, rows) == fewest_misses(calls, 7, rows)


def test_belady_refuses_a_call_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="rows must hold every call; got 2 for a call of 3 keys"):
        belady.misses([np.arange(3)], 3, 2)


@pytest.fixture(scope="module")
def zipf() -> traces.Trace:
    return traces.trace("zipf-drift", 8, 40, 0)


@pytest.mark.parametrize("between", [False, True])
def test_no_policy_beats_belady_and_knowing_more_is_better(zipf: traces.Trace, between: bool) -> None:
    replay = Replay(zipf.calls())
    rows = replay.distinct // 4
    rates = {policy: replay.run(policy, rows, between=between).hit_rate for policy in POLICIES}
    best = replay.optimum(rows, between=between)
    assert max(rates.values()) <= best + 1e-12
    assert rates["lookahead 16"] >= rates["lookahead 4"] >= rates["lfu"] - 0.01
    assert all(0 < rate < 1 for rate in rates.values())


def test_steps_are_compared_before_they_are_timed(zipf: traces.Trace) -> None:
    cases = [Case("in memory", None), Case("tiers", CacheConfig(device_rows=300, policy="lookahead"), depth=4)]
    found = compare(zipf, 4, cases, turns=1)
    assert [row["name"] for row in found] == ["in memory", "tiers"]
    assert all(row["step_ms"] > 0 and row["ratio"] > 0 for row in found)


def test_a_large_table_has_the_rows_it_should(tmp_path: Path) -> None:
    sizes = Sizes(
        device_bytes=200_000, host_bytes=50_000, batch=1000, touched=500, warm_up=2, warm=2, cold=1, sample=2000
    )
    *touched, built = large(20_000, tmp_path, 0, sizes)
    assert [row["rows"] for row in touched] == [20_000]
    assert touched[0]["from_disk"] > 0.5
    assert built["rows_compared"] > 1000
    assert built["disk_rows"] > 10_000


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--traces foo", "--traces must be of click-log, click-log-39, zipf-drift; got 'foo'"),
        ("--policies mru", "--policies must be of lru, lfu, lfu(DECAY), ttl, \"lookahead N\"; got 'mru'"),
        ("--policies none", "got 'none'"),
        ("--policies lookahead", "got 'lookahead'"),
        ("--capacities 0", "--capacities must be shares above 0 and up to 1; got 0.0"),
        ("--dims 0", "--dims should be greater than or equal to 1; got 0"),
        ("--folder no/such", "--folder must be a directory that is there; got 'no/such'"),
    ],
)
def test_flags_that_mean_nothing_are_refused(capsys: pytest.CaptureFixture[str], flags: str, said: str) -> None:
    with pytest.raises(SystemExit):
        run(flags.split())
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_every_flag_has_words(capsys: pytest.CaptureFixture[str]) -> None:
    """A flag without them has its default alone."""
    with pytest.raises(SystemExit):
        run(["--help"])
    said = capsys.readouterr().out
    for words in ("Shares of the trace's distinct keys", "lookahead N", "Columns of an embedding", "10 GB"):
        assert words in " ".join(said.replace("│", " ").split())
