"""A table against a dict, through random inserts, finds, updates, erases, growth and saves.

RECIS_TEST_FULL=1 runs many more and longer histories.

Sizes: D dim.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from recis_core import backends
from recis_core.backends import Clock, LookupMode, TableSpec, UpdateRule
from recis_core.backends.initial_values import Distribution, initial_values
from recis_core.backends.selection import NAMES

D = 4
UIDS = (7, 3)
LR = np.float32(2.0**-4)  # lr * g is exact, so w - lr * g has the same bits everywhere
SPEC = TableSpec(D, UIDS, rows=12, seed=5, distribution=Distribution("normal", 0.0, 1.0))
KEYS = st.lists(st.tuples(st.integers(0, 1), st.integers(-12, 12)), unique=True, max_size=8)
EXAMPLES = {"torch": 12, "numba": 12, "jax": 4, "pallas": 3}
FULL = os.environ.get("RECIS_TEST_FULL") == "1"

settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)

Key = tuple[int, int]  # (ordinal, id)


def _tensors(keys: list[Key]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([i * 2**40 for _, i in keys], dtype=torch.int64)
    return ids, torch.tensor([t for t, _ in keys], dtype=torch.int32)


def _initial(keys: list[Key]) -> np.ndarray:
    ids, tables = (x.numpy() for x in _tensors(keys))
    return initial_values(SPEC.distribution, SPEC.seed, np.array(UIDS, np.uint32)[tables], ids, D)


class TableMachine(RuleBasedStateMachine):
    """`model` is what the table must hold."""

    backend_name: str

    @initialize()
    def create(self) -> None:
        self.backend = backends.get(self.backend_name)
        self.state = self.backend.create(SPEC)
        self.model: dict[Key, np.ndarray] = {}
        self.step = 0

    def _lookup(self, keys: list[Key], insert: bool) -> torch.Tensor:
        self.step += 1
        mode, clock = LookupMode(insert=insert), Clock(self.step, self.step)
        self.state, rows, _ = self.backend.lookup(self.state, *_tensors(keys), mode=mode, clock=clock)
        return rows

    def _insert(self, keys: list[Key]) -> torch.Tensor:
        rows = self._lookup(keys, insert=True)
        assert len(set(rows.tolist())) == len(keys)
        for key, values in zip(keys, _initial(keys), strict=True):
            self.model.setdefault(key, values)
        return rows

    @rule(keys=KEYS)
    def insert(self, keys: list[Key]) -> None:
        rows = self._insert(keys)
        self._check(keys, rows)

    @rule(keys=KEYS)
    def find(self, keys: list[Key]) -> None:
        rows = self._lookup(keys, insert=False)
        assert [row >= 0 for row in rows.tolist()] == [key in self.model for key in keys]
        self._check(keys, rows)

    def _check(self, keys: list[Key], rows: torch.Tensor) -> None:
        got = self.backend.gather(self.state, rows, *_tensors(keys)).numpy()
        want = [self.model.get(key, np.zeros(D, np.float32)) for key in keys]
        np.testing.assert_array_equal(got, np.array(want, np.float32).reshape(-1, D))

    @rule(keys=KEYS, eighths=st.integers(-40, 40))
    def update(self, keys: list[Key], eighths: int) -> None:
        rows = self._insert(keys)
        values = torch.full((len(keys), D), eighths / 8)
        gradient = self.backend.gradient(self.state, *_tensors(keys), rows, values)
        hyper = np.array([[LR, 0, 0], [2 * LR, 0, 0]], np.float32)
        sgd, t = UpdateRule("sgd"), (self.step,) * 2
        self.state = self.backend.update(self.state, gradient, sgd, hyper=hyper, factor=0.5, t=t)
        for key in keys:
            self.model[key] = self.model[key] - hyper[key[0], 0] * np.float32(eighths / 16)

    @rule(keys=KEYS)
    def erase(self, keys: list[Key]) -> None:
        self.state = self.backend.erase(self.state, *_tensors(keys))
        for key in keys:
            self.model.pop(key, None)

    @precondition(lambda self: len(self.model) < 80)
    @rule(base=st.integers(1, 40))
    def grow(self, base: int) -> None:
        self._insert([(0, base * 100 + k) for k in range(24)])

    @rule()
    def save_and_restore(self) -> None:
        saved = self.backend.export(self.state)
        self.state = self.backend.restore(self.backend.create(SPEC), saved)

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        if self.step % 5:  # an export waits for the device
            return
        saved = self.backend.export(self.state)
        ids, tables = saved.ids.tolist(), saved.tables.tolist()
        keys = [(t, i // 2**40) for t, i in zip(tables, ids, strict=True)]
        assert keys == sorted(self.model, key=lambda key: (UIDS[key[0]], key[1]))
        assert len(set(saved.row_numbers.tolist())) == len(set(saved.slot_numbers.tolist())) == len(keys)
        want = [self.model[key] for key in keys]
        np.testing.assert_array_equal(saved.weights.numpy(), np.array(want, np.float32).reshape(-1, D))


@pytest.mark.parametrize("name", NAMES)
def test_table_machine(name: str) -> None:
    machine = type(f"TableMachine_{name}", (TableMachine,), {"backend_name": name})
    count = EXAMPLES[name] * (20 if FULL else 1)
    steps = 40 if FULL else 12
    run_state_machine_as_test(
        machine, settings=settings(settings.get_profile("ci"), max_examples=count, stateful_step_count=steps)
    )
