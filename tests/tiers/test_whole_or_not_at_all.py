"""Whatever a table in tiers does, happens or does not, whatever exception comes at whatever instruction."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recis_core.nn import CacheConfig
from tests.tiers.mishaps import (
    FailsAt,
    Interrupted,
    Twins,
    contents,
    differing,
    disturbed_ahead,
    disturbed_by_lines,
    disturbed_by_signals,
)

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
TIERS = {
    "host": {},
    "scratch": {"host_rows": 12, "disk": True},
    "keep": {"host_rows": 12, "disk": True, "keep": True},
}


def cache_of(tiers: str, folder: Path, **more: object) -> CacheConfig:
    settings = {"device_rows": 8, "policy": "lru", **TIERS[tiers], **more}
    return CacheConfig(**{**settings, **({"disk": str(folder)} if "disk" in settings else {})})


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("tiers", TIERS)
def test_memory_ends_at_each_line(tmp_path: Path, tiers: str, backend: str) -> None:
    twins = Twins(cache_of(tiers, tmp_path), backend)
    for _ in range(6):
        twins.step(lambda: FailsAt(0))
    disturbed_by_lines(twins, 3000 if FULL else 25, first=1 if FULL else 17, apart=1 if FULL else 61)
    twins.tiered.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("tiers", TIERS)
def test_signals_come_at_any_time(tmp_path: Path, tiers: str, backend: str) -> None:
    twins = Twins(cache_of(tiers, tmp_path), backend)
    for _ in range(6):
        twins.step(lambda: FailsAt(0))
    disturbed_by_signals(twins, 700 if FULL else 10, seconds=0.01)
    twins.tiered.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["lines", "signals"])
@pytest.mark.parametrize("policy", ["lru", "lookahead"])
def test_batches_read_ahead(tmp_path: Path, policy: str, kind: str) -> None:
    twins = Twins(cache_of("scratch", tmp_path, policy=policy), "numba")

    def mishap() -> FailsAt | Interrupted:
        lines = kind == "lines"
        return FailsAt(twins.random.randrange(1, 2000)) if lines else Interrupted(twins.random.uniform(1e-5, 0.03))

    disturbed_ahead(twins, 150 if FULL else 3, mishap)
    twins.tiered.close()


def test_a_kept_disk_has_what_was_flushed_after_mishaps(tmp_path: Path) -> None:
    cache = cache_of("keep", tmp_path)
    twins = Twins(cache, "numba")
    for _ in range(6):
        twins.step(lambda: FailsAt(0))
    disturbed_by_lines(twins, 300 if FULL else 9, first=40, apart=7 if FULL else 150)
    twins.tiered.close()
    again = Twins(cache, "numba")
    got, want = contents(again.tiered), contents(twins.plain)
    assert set(differing(got, want)) <= {"found", "inserted", "unknown", "erased"}
    again.tiered.close()
