"""A table in tiers against a dict, through random forwards, updates, calls planned ahead, saves and other sizes.

Arithmetic is exact: momentum and gradients are eighths, the learning rate a power of two. RECIS_TEST_FULL=1 runs 10^5 steps
instead of 10^3.

Sizes: D dim.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from recis_core import backends
from recis_core.backends import Clock, LookupMode, SlotSpec, UpdateRule
from recis_core.backends.tier_loops.loop_threads import loop_threads
from recis_core.nn import CacheConfig
from recis_core.options.cache_policy import Ttl
from recis_core.table.disk import disk_store
from recis_core.table.disk.compaction import Compactor
from recis_core.table.tiers import staging
from recis_core.table.tiers.planned_calls import PlannedCall, digest_of, unique_keys
from recis_core.table.tiers.tiered_state import TieredState
from recis_core.table.tiers.tiered_storage import TieredStorage
from tests.machines import CountedMachine, run_steps
from tests.tiers.machine_keys import SPEC, UIDS, D, Key, arrays, call_of, initial

LR = np.float32(2.0**-4)
SLOTS = (SlotSpec("momentum", D),)
SGD = UpdateRule("sgd", ("momentum",))
HYPER = np.array([[LR, 0, 1], [2 * LR, 0, 1]], np.float32)  # lr, weight decay, momentum
KEYS = st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 5)), max_size=10)
EIGHTHS = st.integers(-8, 8)
SIZES = st.integers(1, 22)  # of the device; there are 22 keys
LOST = st.sampled_from(["skip", "give up", "forget"])
POLICIES = ("lru", "lfu", "lookahead", "ttl")
TTL = 12  # calls
SEGMENT_BYTES = 2 * 4096 + 8 * (32 + 16)  # of the disk's files: a few rows
FULL = os.environ.get("RECIS_TEST_FULL") == "1"
HISTORIES = settings(
    stateful_step_count=50, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
    print_blob=False, report_multiple_bugs=False,
)  # fmt: skip
STEPS = {  # in a run, and in full
    ("numba", "alone"): (1_000, 100_000),
    ("numba", "beside a thread that compacts"): (300, 5_000),
    ("torch", "alone"): (300, 5_000),
}
HAPPENED = (  # in 10^3 steps
    "hits_host", "hits_disk", "read_early", "overflowed", "evicted", "spilled", "compactions", "taken as staged",
    "skip", "give up", "forget", "loaded", "reopened", "crashed",
)  # fmt: skip


class TiersMachine(CountedMachine):
    """`rows` is what the table must hold: weights and momentum by key. `waiting` are gradients, by key, with their sums.

    flushed: what a kept disk must hold if the process ends now; None where that is not known.
    """

    backend_name: str
    happened: Counter[str]

    @initialize(
        policy=st.sampled_from(POLICIES),
        device=SIZES,
        host=st.integers(0, 6),
        keep=st.booleans(),
        index_bytes=st.sampled_from([None, 0]),
    )
    def create(self, policy: str, device: int, host: int, keep: bool, index_bytes: int | None) -> None:
        self.folder = tempfile.mkdtemp()
        self.config = CacheConfig(
            device_rows=device,
            host_rows=host,
            disk=str(Path(self.folder, "0")),
            disk_index_bytes=index_bytes,
            keep=keep,
            policy=Ttl(TTL, lambda: self.moves) if policy == "ttl" else policy,
        )
        self.step = self.moves = 0
        self.rows: dict[Key, tuple[np.ndarray, np.ndarray]] = {}
        self.flushed: dict[Key, tuple[np.ndarray, np.ndarray]] | None = {}
        self.waiting: list[tuple[object, int]] = []
        self.sums: dict[Key, np.ndarray] = {}
        self.ahead: deque[tuple[list[Key], PlannedCall]] = deque()
        self._open()

    def _open(self) -> None:
        self.storage = TieredStorage(backends.get(self.backend_name), self.config, "", SPEC)
        self.storage.add_slots(SLOTS)

    @property
    def state(self) -> TieredState:
        return self.storage.tiers

    def _close(self) -> None:
        self.happened.update(self.state.stats.counts)
        self.happened["compactions"] += self.state.lower.disk.stats()["compactions"]
        self.state.close()
        del self.storage
        self.ahead.clear()
        self.waiting, self.sums = [], {}

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            self._close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def clock(self) -> Clock:
        return Clock(self.step, min([step for _, step in self.waiting], default=self.step))

    # Calls

    def _embed(self, keys: list[Key], insert: bool) -> tuple[torch.Tensor, object]:
        self.moves += 1
        mode, asked = LookupMode(insert=insert), sorted(keys, key=lambda key: key[0])
        [out], saved, _ = self.storage.embed(call_of(keys), mode=mode, clock=self.clock, weights_need_grad=(False,))
        if insert:
            for key in asked:
                self.rows.setdefault(key, (initial(key), np.zeros(D, np.float32)))
        nothing = np.zeros(D, np.float32), None
        want = np.array([self.rows.get(key, nothing)[0] for key in asked], np.float32).reshape(-1, D)
        np.testing.assert_array_equal(out.numpy(), want)
        return out, saved

    @rule(keys=KEYS, insert=st.booleans())
    def look(self, keys: list[Key], insert: bool) -> None:
        """insert: a call of training whose backward never comes."""
        self._embed(keys, insert)

    @rule(keys=KEYS, planned=st.booleans(), eighths=EIGHTHS, meanwhile=st.none() | SIZES, update=st.booleans())
    def learn(self, keys: list[Key], eighths: int, meanwhile: int | None, update: bool, planned: bool = False) -> None:
        """planned: the first call that is planned, if one is. meanwhile: what the device holds from before the backward on."""
        if planned and self.ahead:
            keys, batch = self.ahead.popleft()
            self.happened["taken as staged"] += batch.rows is not None
        step = self.step
        out, saved = self._embed(keys, insert=True)
        if meanwhile is not None:
            self.resize(meanwhile)
        gradient, _ = self.storage.embed_grad(saved, [torch.full_like(out, eighths / 8)])
        if gradient is not None:
            self.waiting.append((gradient, step))
        for key in keys:
            self.sums[key] = self.sums.get(key, np.zeros(D, np.float32)) + np.float32(eighths / 8)
        if update:
            self.update()

    @rule(keys=KEYS, insert=st.booleans(), unknown=st.sampled_from(["zeros", "initial"]))
    def read_by_row_number(self, keys: list[Key], insert: bool, unknown: str) -> None:
        """As other ranks' requests do: find or insert, read rows and slots."""
        self._by_row_number(list(dict.fromkeys(keys)), insert, unknown)

    @rule(keys=KEYS, insert=st.booleans(), eighths=EIGHTHS)
    def write_by_row_number(self, keys: list[Key], insert: bool, eighths: int) -> None:
        """And write slots."""
        keys = list(dict.fromkeys(keys))
        numbers = self._by_row_number(keys, insert)
        values = torch.full((len(numbers), D), eighths / 8)
        self.storage.write_slot("momentum", numbers, values)
        for key in keys:
            if key in self.rows:
                self.rows[key] = self.rows[key][0], np.full(D, eighths / 8, np.float32)

    def _by_row_number(self, keys: list[Key], insert: bool, unknown: str = "zeros") -> torch.Tensor:
        """Numbers of the known ones."""
        if insert:
            for key in keys:
                self.rows.setdefault(key, (initial(key), np.zeros(D, np.float32)))
        ids, tables = arrays(keys)
        mode = LookupMode(insert=insert)
        numbers, _ = self.storage.lookup(ids, tables, mode=mode, clock=self.clock)
        assert [row >= 0 for row in numbers.tolist()] == [key in self.rows for key in keys]
        nothing = np.zeros(D, np.float32)
        new = {key: initial(key) if unknown == "initial" else nothing for key in keys}
        want = np.array([self.rows.get(key, (new[key], nothing)) for key in keys], np.float32).reshape(-1, 2, D)
        got = self.storage.gather(numbers, ids, tables, unknown=unknown)
        np.testing.assert_array_equal(got.numpy(), want[:, 0])
        known = numbers >= 0
        got = self.storage.read_slot("momentum", numbers[known])
        np.testing.assert_array_equal(got.numpy(), want[known.numpy(), 1])
        return numbers[known]

    @rule()
    def read_all_by_marks(self) -> None:
        """As an eviction by FilterHook does."""
        marks = self.storage.marks()
        keys = self._keys_of(marks)
        want = np.array([self.rows[key] for key in keys], np.float32).reshape(-1, 2, D)
        got = self.storage.gather(marks.rows, marks.ids, marks.tables)
        np.testing.assert_array_equal(got.numpy(), want[:, 0])
        got = self.storage.read_slot("momentum", marks.rows)
        np.testing.assert_array_equal(got.numpy(), want[:, 1])

    def _keys_of(self, all_rows: Any) -> list[Key]:
        """Of a Snapshot or Marks: all that there are, in their order."""
        keys = [(t, i // 2**40) for t, i in zip(all_rows.tables.tolist(), all_rows.ids.tolist(), strict=True)]
        assert keys == sorted(self.rows, key=lambda key: (UIDS[key[0]], key[1]))
        return keys

    @rule(update=st.booleans())
    def end_step(self, update: bool) -> None:
        """Without an update its gradients are discarded."""
        if update:
            self.update()
        else:
            self._stepped()

    def update(self) -> None:
        if self.waiting:
            gradient = self.storage.combine([gradient for gradient, _ in self.waiting])
            self.storage.update(gradient, SGD, hyper=HYPER, factor=1.0, t=(1, 1))
        for key, total in self.sums.items():
            weights, momentum = self.rows[key]
            self.rows[key] = weights - HYPER[key[0], 0] * (momentum + total), momentum + total
        self._stepped()

    def _stepped(self) -> None:
        self.waiting, self.sums = [], {}
        self.step += 1

    # Calls that are known before they come

    @precondition(lambda self: len(self.ahead) < 4)
    @rule(keys=KEYS, early=st.booleans(), stale=st.booleans(), stage=st.booleans(), new=st.booleans())
    def plan(self, keys: list[Key], early: bool, stale: bool, stage: bool, new: bool) -> None:
        """early: what is on disk is read; stale: and written again before the call. stage: as the rule, at once."""
        call = call_of(keys)
        batch = self.state.planned_calls.plan(self.state.device, digest_of(call), unique_keys(call))
        self.ahead.append((keys, batch))
        if early:
            staging.read_early(self.state, batch)
        if stale:
            self.learn([*keys, *keys], 1, None, update=True)
            self.evict(past_host=True)
        if stage:
            self.stage(new)

    @precondition(lambda self: self.ahead)
    @rule(new=st.booleans())
    def stage(self, new: bool) -> None:
        """The first that is not staged yet; then rows move."""
        batch = next((batch for _, batch in self.ahead if batch.rows is None), None)
        if batch is not None and batch in self.state.planned_calls.calls:
            staging.stage(self.state, batch, new=new)

    @precondition(lambda self: len(self.ahead) < 4)
    @rule(
        calls=st.lists(KEYS, min_size=1, max_size=3),
        stale=st.booleans(),
        new=st.booleans(),
        lost=st.none() | LOST,
        eighths=EIGHTHS,
        update=st.booleans(),
    )
    def train_ahead(
        self, calls: list[list[Key]], stale: bool, new: bool, lost: str | None, eighths: int, update: bool
    ) -> None:
        """As under a Prefetcher that is well ahead. lost: how the first one never comes."""
        for keys in calls:
            self.plan(keys, early=True, stale=stale, stage=True, new=new)
        if lost is not None:
            self.never_comes(lost)
        for keys in calls:
            self.learn(keys, eighths, None, update, planned=True)

    @precondition(lambda self: self.ahead)
    @rule(how=LOST)
    def never_comes(self, how: str) -> None:
        """skip: the first call to come lets go of those that were planned before it. give up, forget: of this one, of all."""
        _, batch = self.ahead.popleft()
        self.happened[how] += 1
        if how == "give up":
            self.state.planned_calls.leave(self.state.device, batch.number)
        if how == "forget":
            self.state.planned_calls.forget(self.state.device)
            self.ahead.clear()

    # The table as a whole

    @rule(keys=KEYS)
    def erase(self, keys: list[Key]) -> None:
        keys = [key for key in dict.fromkeys(keys) if key not in self.sums]
        self.storage.erase(*arrays(keys))
        for key in keys:
            self.rows.pop(key, None)

    @rule(keys=KEYS, eighths=EIGHTHS)
    def write(self, keys: list[Key], eighths: int) -> None:
        """As HashTable.insert: their slots begin anew."""
        keys = [key for key in dict.fromkeys(keys) if key not in self.sums]
        ids, tables = arrays(keys)
        weights = torch.full((len(keys), D), eighths / 8)
        self.storage.restore(backends.Snapshot(ids, tables, weights, {}))
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
        free = state.device.victims(len(state.device), self.clock.pinned_from, state.planned_calls.consumed, nothing)
        state.depart(free)
        if past_host:
            self.flush()
            state.lower.host.drop(state.lower.host.index.all_rows())

    @rule(rows=SIZES)
    def resize(self, rows: int) -> None:
        self.state.resize(rows)

    @rule(rows=st.integers(0, 8))
    def resize_host(self, rows: int) -> None:
        self.state.lower.host_rows = rows

    @rule(compact=st.booleans())
    def disk(self, compact: bool) -> None:
        """compact: what lies there; it is flushed too, with some of the rows that were written since, without the others."""
        if compact:
            self.state.lower.disk.compact()
            self.flushed = None
        else:
            self.flush()

    def flush(self) -> None:
        self.state.flush(self.step)
        assert len(self.state.lower.disk) == len(self.rows)
        self.flushed = dict(self.rows)

    @precondition(lambda self: not self.waiting)
    @rule()
    def save_and_load(self) -> None:
        """On a kept disk over the rows that it holds: of those that were erased, what the last flush left comes back."""
        saved = self.storage.export()
        if self.config.keep:
            if self.flushed is None:
                self.flush()
            self.rows = dict(self.flushed) | self.rows
        self._close()
        self._open()
        self.flushed = None
        self.storage.restore(saved)
        self.happened["loaded"] += 1

    @precondition(lambda self: self.config.keep)
    @rule()
    def reopen(self) -> None:
        """Gradients that wait are lost."""
        self.flush()
        self._close()
        self._open()
        self.happened["reopened"] += 1

    @precondition(lambda self: self.config.keep and self.flushed is not None)
    @rule()
    def crash(self) -> None:
        """What was not flushed is lost, too."""
        after = Path(self.folder, str(int(Path(self.config.disk).name) + 1))
        shutil.copytree(self.state.lower.disk.path.parent, after)
        self._close()
        self.config = replace(self.config, disk=str(after))
        self._open()
        self.rows = dict(self.flushed)
        self.happened["crashed"] += 1

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        if self.moves % 4:
            return
        saved = self.storage.export()
        keys = self._keys_of(saved)
        want = np.array([self.rows[key] for key in keys], np.float32).reshape(-1, 2, D)
        np.testing.assert_array_equal(saved.weights.numpy(), want[:, 0])
        np.testing.assert_array_equal(saved.slots["momentum"].numpy(), want[:, 1])
        assert self.storage.counters().rows == len(self.rows)

    @invariant()
    def holds_rows_for_what_is_staged_alone(self) -> None:
        if not hasattr(self, "storage"):
            return
        at = self.state.device.index.at
        want = np.zeros(len(at["held"]), np.int32)
        for batch in self.state.planned_calls.calls:
            if batch.rows is not None:
                want[batch.rows[batch.rows >= 0]] += 1
        np.testing.assert_array_equal(at["held"], want)
        assert len(self.state.device) <= self.state.device.capacity


@pytest.fixture(autouse=True)
def tiny_loops_on_one_thread() -> Iterator[None]:
    """A loop over a few rows waits for its threads, milliseconds where other processes run."""
    with loop_threads(1):
        yield


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "how"), STEPS)
def test_table_in_tiers_machine(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that a thread takes part in cannot be shrunk; so compaction has no turn but `compact` in the others."""
    store = partial(disk_store.DiskStore, segment_bytes=SEGMENT_BYTES, threads=1, sync=False)
    monkeypatch.setattr(disk_store, "DiskStore", store)
    if how == "alone":
        monkeypatch.setattr(Compactor, "look", lambda self: None)
    histories = HISTORIES if how == "alone" else settings(HISTORIES, phases=[Phase.generate])
    machine = type("Machine", (TiersMachine,), {"backend_name": name, "happened": Counter()})
    assert run_steps(machine, STEPS[name, how][FULL], histories) >= STEPS[name, how][FULL]
    if STEPS[name, how] == STEPS["numba", "alone"]:
        assert [what for what in HAPPENED if not machine.happened[what]] == []
