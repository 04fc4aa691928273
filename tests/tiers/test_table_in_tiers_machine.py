"""A table in tiers against a dict, through random forwards, updates, calls planned ahead, saves and other sizes.

Arithmetic is exact: momentum and gradients are eighths, the learning rate a power of two.

Sizes: D dim.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from pathlib import Path

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

import backends
from backends import Clock, LookupMode, SlotSpec, TableSpec, UpdateRule
from backends.initial_values import Distribution, initial_values
from backends.records import LookupCall, Request
from recis_core.nn import CacheConfig
from recis_core.table.tiers import staging
from recis_core.table.tiers.tiered_backend import TieredBackend
from recis_core.table.tiers.tiered_state import TieredState
from recis_core.table.tiers.upcoming import Batch, digest_of

D = 2
UIDS = (7, 3)
LR = np.float32(2.0**-4)
SPEC = TableSpec(D, UIDS, rows=8, seed=5, distribution=Distribution("normal", 0.0, 1.0))
SLOTS = (SlotSpec("momentum", D),)
SGD = UpdateRule("sgd", ("momentum",))
HYPER = np.array([[LR, 0, 1], [2 * LR, 0, 1]], np.float32)  # lr, weight decay, momentum
KEYS = st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 5)), max_size=10)
EIGHTHS = st.integers(-8, 8)
SIZES = st.integers(1, 22)  # of the device; there are 22 keys
POLICIES = ("lru", "lfu", "lookahead", "ttl(3600)")
FULL = os.environ.get("RECIS_TEST_FULL") == "1"
STEPS = 50
EXAMPLES = {"numba": (100, 4_000), "torch": (10, 200)}  # in a run, in full; up to 50 steps each

settings.register_profile(
    "tiers", deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)

Key = tuple[int, int]  # (ordinal, id)


def call_of(keys: list[Key]) -> LookupCall:
    """A row for each occurrence, the first table's keys first."""
    keys = sorted(keys, key=lambda key: key[0])
    ids = torch.tensor([i * 2**40 for _, i in keys], dtype=torch.int64)
    lengths = tuple(sum(t == table for t, _ in keys) for table in range(2))
    return LookupCall(ids, lengths, (0, 1), (Request("none", torch.tensor([0, len(keys)])),))


def arrays(keys: list[Key]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([i * 2**40 for _, i in keys], dtype=torch.int64)
    return ids, torch.tensor([t for t, _ in keys], dtype=torch.int32)


def initial(key: Key) -> np.ndarray:
    ids, tables = (x.numpy() for x in arrays([key]))
    return initial_values(SPEC.distribution, SPEC.seed, np.array(UIDS, np.uint32)[tables], ids, D)[0]


class TiersMachine(RuleBasedStateMachine):
    """`rows` is what the table must hold: weights and momentum by key. `waiting` are gradients, by key, with their sums."""

    backend_name: str

    @initialize(policy=st.sampled_from(POLICIES), device=SIZES, host=st.integers(0, 6))
    def create(self, policy: str, device: int, host: int) -> None:
        self.folder = tempfile.mkdtemp()
        self.config = CacheConfig(device_rows=device, host_rows=host, disk=self.folder, policy=policy)
        self.backend = TieredBackend(backends.get(self.backend_name), self.config)
        self.state = self._new_state()
        self.rows: dict[Key, tuple[np.ndarray, np.ndarray]] = {}
        self.waiting: list[tuple[object, int]] = []
        self.sums: dict[Key, np.ndarray] = {}
        self.step = self.moves = 0
        self.ahead: deque[tuple[list[Key], Batch]] = deque()

    def _new_state(self) -> TieredState:
        return self.backend.add_slots(self.backend.create(SPEC), SLOTS)

    def teardown(self) -> None:
        if hasattr(self, "state"):
            self.state.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def clock(self) -> Clock:
        return Clock(self.step, min([step for _, step in self.waiting], default=self.step))

    # Calls

    def _embed(self, keys: list[Key], insert: bool) -> tuple[torch.Tensor, object]:
        self.moves += 1
        mode, asked = LookupMode(insert=insert), sorted(keys, key=lambda key: key[0])
        self.state, [out], saved, _ = self.backend.embed(
            self.state, call_of(keys), mode=mode, clock=self.clock, weights_need_grad=(False,)
        )
        if insert:
            for key in asked:
                self.rows.setdefault(key, (initial(key), np.zeros(D, np.float32)))
        nothing = np.zeros(D, np.float32), None
        want = np.array([self.rows.get(key, nothing)[0] for key in asked], np.float32).reshape(-1, D)
        np.testing.assert_array_equal(out.numpy(), want)
        return out, saved

    @rule(keys=KEYS)
    def look(self, keys: list[Key]) -> None:
        self._embed(keys, insert=False)

    @rule(keys=KEYS)
    def look_without_backward(self, keys: list[Key]) -> None:
        self._embed(keys, insert=True)

    @rule(keys=KEYS, eighths=EIGHTHS, meanwhile=st.none() | SIZES, update=st.booleans())
    def learn(self, keys: list[Key], eighths: int, meanwhile: int | None, update: bool) -> None:
        """meanwhile: what the device holds from before the backward on."""
        step = self.step
        out, saved = self._embed(keys, insert=True)
        if meanwhile is not None:
            self.resize(meanwhile)
        gradient, _ = self.backend.embed_grad(saved, [torch.full_like(out, eighths / 8)])
        if gradient is not None:
            self.waiting.append((gradient, step))
        for key in keys:
            self.sums[key] = self.sums.get(key, np.zeros(D, np.float32)) + np.float32(eighths / 8)
        if update:
            self.update()

    @rule(keys=KEYS, insert=st.booleans(), eighths=EIGHTHS)
    def go_by_row_number(self, keys: list[Key], insert: bool, eighths: int) -> None:
        """As other ranks' requests do: find or insert, read rows and slots, write slots."""
        keys = list(dict.fromkeys(keys))
        if insert:
            for key in keys:
                self.rows.setdefault(key, (initial(key), np.zeros(D, np.float32)))
        ids, tables = arrays(keys)
        mode = LookupMode(insert=insert)
        self.state, numbers, _ = self.backend.lookup(self.state, ids, tables, mode=mode, clock=self.clock)
        assert [row >= 0 for row in numbers.tolist()] == [key in self.rows for key in keys]
        nothing = np.zeros(D, np.float32)
        want = np.array([self.rows.get(key, (nothing, nothing)) for key in keys], np.float32).reshape(-1, 2, D)
        got = self.backend.gather(self.state, numbers, ids, tables)
        np.testing.assert_array_equal(got.numpy(), want[:, 0])
        known = numbers >= 0
        got = self.backend.read_slot(self.state, "momentum", numbers[known])
        np.testing.assert_array_equal(got.numpy(), want[known.numpy(), 1])
        values = torch.full((int(known.sum()), D), eighths / 8)
        self.state = self.backend.write_slot(self.state, "momentum", numbers[known], values)
        for key in keys:
            if key in self.rows:
                self.rows[key] = self.rows[key][0], values[0].numpy()

    @rule()
    def update(self) -> None:
        if self.waiting:
            gradient = self.backend.combine([gradient for gradient, _ in self.waiting])
            self.state = self.backend.update(self.state, gradient, SGD, hyper=HYPER, factor=1.0, t=(1, 1))
        for key, total in self.sums.items():
            weights, momentum = self.rows[key]
            self.rows[key] = weights - HYPER[key[0], 0] * (momentum + total), momentum + total
        self._stepped()

    @rule()
    def discard(self) -> None:
        self._stepped()

    def _stepped(self) -> None:
        self.waiting, self.sums = [], {}
        self.step += 1

    # Calls that are known before they come

    @precondition(lambda self: len(self.ahead) < 4)
    @rule(keys=KEYS, early=st.booleans(), stale=st.booleans())
    def plan(self, keys: list[Key], early: bool, stale: bool) -> None:
        """early: what is on disk is read; stale: and written again before the call."""
        call = call_of(keys)
        batch = staging.plan(self.state, digest_of(call), staging.unique_keys(self.state, call))
        self.ahead.append((keys, batch))
        if early:
            staging.read_early(self.state, batch)
        if stale:
            self.learn([*keys, *keys], 1, None, update=True)
            self.evict(past_host=True)

    @precondition(lambda self: self.ahead)
    @rule(new=st.booleans())
    def stage(self, new: bool) -> None:
        """The first that is not staged yet; then rows move."""
        batch = next((batch for _, batch in self.ahead if batch.rows is None), None)
        if batch is not None and batch in self.state.upcoming.batches:
            staging.stage(self.state, batch, new=new)

    @precondition(lambda self: self.ahead)
    @rule(eighths=EIGHTHS, meanwhile=st.none() | SIZES, update=st.booleans())
    def learn_what_was_planned(self, eighths: int, meanwhile: int | None, update: bool) -> None:
        keys, _ = self.ahead.popleft()
        self.learn(keys, eighths, meanwhile, update)

    @precondition(lambda self: self.ahead)
    @rule()
    def skip(self) -> None:
        """The next call to come lets go of it."""
        self.ahead.popleft()

    @rule()
    def forget(self) -> None:
        staging.forget(self.state)
        self.ahead.clear()

    # The table as a whole

    @rule(keys=KEYS)
    def erase(self, keys: list[Key]) -> None:
        keys = [key for key in dict.fromkeys(keys) if key not in self.sums]
        self.state = self.backend.erase(self.state, *arrays(keys))
        for key in keys:
            self.rows.pop(key, None)

    @rule(keys=KEYS, eighths=EIGHTHS)
    def write(self, keys: list[Key], eighths: int) -> None:
        """As HashTable.insert: their slots begin anew."""
        keys = [key for key in dict.fromkeys(keys) if key not in self.sums]
        ids, tables = arrays(keys)
        weights = torch.full((len(keys), D), eighths / 8)
        self.state = self.backend.restore(self.state, backends.Snapshot(ids, tables, weights, {}))
        for key in keys:
            self.rows[key] = np.full(D, eighths / 8, np.float32), np.zeros(D, np.float32)

    @rule(past_host=st.booleans(), flushed=st.booleans())
    def evict(self, past_host: bool, flushed: bool = False) -> None:
        """All rows that may leave the device; with past_host all of host memory's go on to the disk."""
        state = self.state
        if flushed:
            self.flush()
            self.learn([key for key in self.rows if key[1] % 2], 1, None, update=True)
        nothing = np.zeros(0, np.int64)
        free = state.device.victims(len(state.device), self.clock.pinned_from, state.upcoming.consumed, nothing)
        state.depart(free)
        if past_host:
            state.flush()
            state.lower.host.drop(state.lower.host.index.all_rows())

    @rule(rows=SIZES)
    def resize(self, rows: int) -> None:
        self.state.resize(rows)

    @rule(rows=st.integers(0, 8))
    def resize_host(self, rows: int) -> None:
        self.state.lower.host_rows = rows

    @rule()
    def flush(self) -> None:
        self.state.flush()
        assert len(self.state.lower.disk) == len(self.rows)

    @rule()
    def compact(self) -> None:
        self.state.lower.disk.compact()

    @precondition(lambda self: not self.waiting)
    @rule()
    def save_and_load(self) -> None:
        saved = self.backend.export(self.state)
        self.state.close()
        self.state, self.sums = self.backend.restore(self._new_state(), saved), {}
        self.ahead.clear()

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        if self.moves % 4:
            return
        saved = self.backend.export(self.state)
        keys = [(t, i // 2**40) for t, i in zip(saved.tables.tolist(), saved.ids.tolist(), strict=True)]
        assert keys == sorted(self.rows, key=lambda key: (UIDS[key[0]], key[1]))
        want = np.array([self.rows[key] for key in keys], np.float32).reshape(-1, 2, D)
        np.testing.assert_array_equal(saved.weights.numpy(), want[:, 0])
        np.testing.assert_array_equal(saved.slots["momentum"].numpy(), want[:, 1])
        assert self.backend.counters(self.state).rows == len(self.rows)

    @invariant()
    def holds_rows_for_what_is_staged_alone(self) -> None:
        if not hasattr(self, "state"):
            return
        at = self.state.device.index.at
        want = np.zeros(len(at["held"]), np.int32)
        for batch in self.state.upcoming.batches:
            if batch.rows is not None:
                want[batch.rows[batch.rows >= 0]] += 1
        np.testing.assert_array_equal(at["held"], want)
        assert len(self.state.device) <= self.state.device.capacity


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", EXAMPLES)
def test_table_in_tiers_machine(name: str, tmp_path: Path) -> None:
    machine = type(f"TiersMachine_{name}", (TiersMachine,), {"backend_name": name})
    run_state_machine_as_test(
        machine,
        settings=settings(settings.get_profile("tiers"), max_examples=EXAMPLES[name][FULL], stateful_step_count=STEPS),
    )
