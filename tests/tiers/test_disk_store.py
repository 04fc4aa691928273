"""Disk stores against a dict, through writes, erases, compaction and reopening; and their edges.

RECIS_TEST_FULL=1 runs many more and longer histories.

Sizes: B bytes of a row.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from recis_core.table.disk import index
from tests.tiers.disk_stores import B, Key, arrays, contents, open_store, rows_of

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
IDS = st.one_of(st.integers(-30, 30), st.sampled_from([-(2**63), 2**63 - 1, 2**52 + 1, 2**32, -(2**32)]))
KEYS = st.lists(st.tuples(st.sampled_from([0, 1, 2**31 - 1]), IDS), unique=True, max_size=40)
HISTORIES = settings(  # a history that a thread takes part in cannot be shrunk
    phases=[Phase.generate],
    max_examples=200 if FULL else 25, stateful_step_count=200 if FULL else 45, deadline=None, derandomize=True,
    database=None, suppress_health_check=list(HealthCheck), print_blob=False,
)  # fmt: skip


@pytest.fixture(params=["disk", "rocks"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


class StoreMachine(RuleBasedStateMachine):
    """`model` is what the store must hold, `places` where it said each row lay."""

    kind: str

    @initialize()
    def create(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.store = open_store(self.kind, self.directory / "rows")
        self.model: dict[Key, bytes] = {}
        self.places: dict[Key, int] = {}
        self.version = 0

    @rule(keys=KEYS)
    def write(self, keys: list[Key]) -> None:
        self.version += 1
        rows = rows_of(keys, self.version)
        self.store.write(*arrays(keys), rows)
        self.model |= {key: row.tobytes() for key, row in zip(keys, rows, strict=True)}
        places = dict(zip(keys, self.store.find(*arrays(keys)).tolist(), strict=True))
        for key in keys:
            assert places[key] >= 0
            assert places[key] != self.places.get(key)
        self.places |= places

    @rule(keys=KEYS)
    def erase(self, keys: list[Key]) -> None:
        assert self.store.erase(*arrays(keys)) == len(self.model.keys() & set(keys))
        for key in keys:
            self.model.pop(key, None)

    @rule()
    def erase_all(self) -> None:
        self.erase(list(self.model))

    @rule(keys=KEYS)
    def read(self, keys: list[Key]) -> None:
        here, rows = self.store.read(*arrays(keys))
        assert here.dtype == bool
        assert rows.shape == (len(keys), B)
        for key, is_here, row in zip(keys, here.tolist(), rows, strict=True):
            assert is_here == (key in self.model)
            assert row.tobytes() == self.model.get(key, bytes(B))
        assert ((self.store.find(*arrays(keys)) >= 0) == here).all()

    @rule()
    def flush(self) -> None:
        self.store.flush()

    @rule()
    def compact(self) -> None:
        self.store.compact()
        self.scan()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.kind, self.directory / "rows")
        self.scan()

    @rule()
    def scan(self) -> None:
        assert contents(self.store) == self.model

    @invariant()
    def counts(self) -> None:
        assert len(self.store) == self.store.stats()["rows"] == len(self.model)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.scan()
            self.store.close()
            shutil.rmtree(self.directory)


def test_as_a_dict(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FIRST_GROUPS", 1)
    run_state_machine_as_test(type("Machine", (StoreMachine,), {"kind": kind}), settings=HISTORIES)


def test_grows_as_a_dict_does(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions from 8 slots on, thousands of keys, erased in turns."""
    monkeypatch.setattr(index, "FIRST_GROUPS", 1)
    store, model, random = open_store(kind, tmp_path), {}, np.random.default_rng(0)
    for turn in range(12):
        keys = [(int(t), int(i)) for t, i in {(i % 3, int(i)) for i in random.integers(-4000, 4000, 1500)}]
        rows = rows_of(keys, turn)
        store.write(*arrays(keys), rows)
        model |= {key: row.tobytes() for key, row in zip(keys, rows, strict=True)}
        gone = keys[:: 1 + turn % 3]
        assert store.erase(*arrays(gone)) == len(gone)
        for key in gone:
            del model[key]
        assert contents(store, 1000) == model
    store.close()
    store = open_store(kind, tmp_path)
    assert contents(store, 1000) == model
    store.close()
