"""The random histories of a table in tiers once more, beside a plain table that sees the same calls: who was used, and found."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from recis_core.backends import Backend, Clock, LookupMode, Snapshot, TableSpec
from recis_core.backends.records import LookupCall
from recis_core.options.cache_config import CacheConfig
from recis_core.table.plain_storage import PlainStorage
from recis_core.table.tiers import lower_tiers
from recis_core.table.tiers.tiered_storage import TieredStorage
from tests.machines import run_steps
from tests.tiers import test_table_in_tiers_machine as machine
from tests.tiers.test_table_in_tiers_machine import tiny_loops_on_one_thread  # noqa: F401

STEPS = 5_000 if machine.FULL else 300  # of each case


class BesidePlain(TieredStorage):
    """Whatever finds, inserts, erases or writes rows does so in a plain table, too."""

    def __init__(self, backend: Backend, config: CacheConfig, owner: str, spec: TableSpec) -> None:
        super().__init__(backend, config, owner, spec)
        self.plain = PlainStorage(backend, spec, machine.SLOTS)

    def lookup(self, ids: Any, tables: Any, *, mode: LookupMode, clock: Clock, counts: Any = None) -> Any:
        self.plain.lookup(ids, tables, mode=mode, clock=clock)
        return super().lookup(ids, tables, mode=mode, clock=clock, counts=counts)

    def embed(self, call: LookupCall, **how: Any) -> Any:
        self.plain.embed(call, **how)
        return super().embed(call, **how)

    def erase(self, ids: Any, tables: Any) -> None:
        self.plain.erase(ids, tables)
        super().erase(ids, tables)

    def restore(self, snapshot: Snapshot) -> None:
        self.plain.restore(snapshot)
        super().restore(snapshot)


class UsesMachine(machine.TiersMachine):
    """Without disks that are kept: a plain table cannot go back to what a flush left."""

    backend_name = "numba"

    @initialize(policy=st.sampled_from(machine.POLICIES), device=machine.SIZES, host=st.integers(0, 6))
    def create(self, policy: str, device: int, host: int) -> None:  # type: ignore[override]
        super().create(policy, device, host, keep=False, index_bytes=None)

    @invariant()
    def used_as_in_a_plain_table(self) -> None:
        if not hasattr(self, "storage"):
            return
        plain = self.storage.plain  # type: ignore[attr-defined]
        got, want = self.storage.marks(), plain.marks()
        for name in ("ids", "tables", "stamps", *(["scores"] if machine.SPEC.score == "count" else [])):
            assert getattr(got, name).tolist() == getattr(want, name).tolist(), name
        mine, its = self.storage.counters(), plain.counters()
        assert (mine.found, mine.unknown) == (its.found, its.unknown)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("late_rows", [2, 1 << 18])
@pytest.mark.parametrize("score", ["step", "count"])
def test_used_as_a_plain_table(score: str, late_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """late_rows: whose marks may wait."""
    monkeypatch.setattr(machine, "SPEC", dataclasses.replace(machine.SPEC, score=score))
    monkeypatch.setattr(machine, "TieredStorage", BesidePlain)
    monkeypatch.setattr(lower_tiers, "DEFERRED_ROWS", late_rows)
    monkeypatch.setattr(lower_tiers, "DEFERRED_SHARE", 1 << 20)
    counted = type("Machine", (UsesMachine,), {"happened": Counter()})
    assert run_steps(counted, STEPS, machine.HISTORIES) >= STEPS
