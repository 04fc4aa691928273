"""marks, export, restore, erase and counters."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recis_core.backends import Clock, SlotSpec, Snapshot, UpdateRule
from tests.contract.compare import assert_same, assert_same_table
from tests.contract.pair import Pair, make_spec
from tests.contract.recorded import Recorded
from tests.contract.test_placement import ids_of_buckets
from tests.reference import snapshots

SLOTS = (SlotSpec("m", 8, 0.5), SlotSpec("s", 1, 0.25))
IDS, TABLES = np.arange(40) * 2**35 - 2**39, (np.arange(40) % 3).astype(np.int32)
PLACED = ("slot_numbers", "row_numbers", "scores", "stamps", "free_rows")


def _lived_in(backend: Recorded, **changes) -> Pair:
    """A table that has grown, forgotten ids, and been updated."""
    pair = Pair(backend, make_spec(**{"rows": 12} | changes), SLOTS)
    for step, part in enumerate((slice(0, 24), slice(16, 40)), 1):
        pair.lookup(IDS[part], TABLES[part], clock=Clock(step))
    pair.erase(IDS[5:12], TABLES[5:12])
    hyper = np.array([[0.5, 0, 0]] * 3, np.float32)
    ids, tables = IDS[16:], TABLES[16:]
    pair.update(ids, tables, np.ones((24, 8)) / 4, UpdateRule("sgd"), hyper, factor=1.0, t=(1, 1, 1))
    return pair


def _assert_marks(pair: Pair) -> None:
    got, want = pair.backend.marks(pair.state), snapshots.export(pair.reference)
    for name in ("ids", "tables", "scores", "stamps"):
        assert_same(name, getattr(got, name), getattr(want, name))
    assert_same("rows", got.rows, want.row_numbers)


def test_marks(backend: Recorded) -> None:
    pair = _lived_in(backend)
    _assert_marks(pair)
    before = backend.marks(pair.state)
    pair.lookup(IDS, TABLES, clock=Clock(7))
    assert len(before.ids) == 33
    assert int(before.stamps.max()) == 2  # a copy, whatever the table does afterwards
    _assert_marks(pair)


def test_marks_that_count(compiled_backend: Recorded) -> None:
    pair = Pair(compiled_backend, make_spec(score="count"))
    for step in range(3):
        pair.lookup(IDS[: 40 - 8 * step], TABLES[: 40 - 8 * step], clock=Clock(step))
    _assert_marks(pair)
    assert sorted(set(compiled_backend.marks(pair.state).scores.tolist())) == [1, 2, 3]


def test_marks_of_a_stash_and_of_nothing(backend: Recorded) -> None:
    pair = Pair(backend, make_spec())
    _assert_marks(pair)
    pair.lookup(ids_of_buckets(40, (2, 5)), np.zeros(40, np.int32))
    _assert_marks(pair)


def _restore(pair: Pair, snapshot: Snapshot) -> None:
    pair.state = pair.backend.restore(pair.state, snapshot)
    snapshots.restore(pair.reference, snapshot)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip_keeps_placement(backend: Recorded, dtype: str) -> None:
    """Into a new table, and training goes on bit by bit: the next ids take the same ways and rows."""
    old = _lived_in(backend, dtype=dtype)
    saved = backend.export(old.state)
    new = Pair(backend, old.spec, SLOTS)
    _restore(new, saved)
    assert_same_table(backend.export(new.state), saved)
    for pair in (old, new):
        pair.lookup(IDS + 1, TABLES, clock=Clock(3))
    assert_same_table(backend.export(new.state), backend.export(old.state))


def test_round_trip_of_an_evicting_table(backend: Recorded) -> None:
    old = _lived_in(backend, max_rows=60, evict=True)
    new = Pair(backend, old.spec, SLOTS)
    _restore(new, backend.export(old.state))
    for pair in (old, new):
        pair.lookup(IDS + 1, TABLES, clock=Clock(3, 3))
    assert_same_table(backend.export(new.state), backend.export(old.state))
    assert new.reference.counters().evicted


def test_stash_is_restored(backend: Recorded) -> None:
    """Where the reference has a stash, slot numbers are negative, and stay."""
    ids = ids_of_buckets(40, (2, 5))
    old = Pair(backend, make_spec())
    old.lookup(ids, np.zeros(40, np.int32))
    saved = backend.export(old.state)
    assert int((saved.slot_numbers < 0).sum()) >= 8
    new = Pair(backend, make_spec())
    _restore(new, saved)
    new.lookup(ids[::-1].copy(), np.zeros(40, np.int32), clock=Clock(1))
    new.check_placement()


def test_without_placement_ids_are_placed_anew(backend: Recorded) -> None:
    saved = backend.export(_lived_in(backend).state)
    new = Pair(backend, make_spec(rows=12), SLOTS)
    _restore(new, replace(saved, **dict.fromkeys(PLACED), next_row=0, buckets=0))
    assert_same_table(backend.export(new.state), snapshots.export(new.reference))
    assert_same("weights", backend.export(new.state).weights, saved.weights)


def test_scores_survive_another_layout(backend: Recorded) -> None:
    """Slots and rows are dropped when the layout changes; what eviction goes by is not."""
    saved = backend.export(_lived_in(backend).state)
    new = Pair(backend, make_spec(rows=12), SLOTS)
    _restore(new, replace(saved, slot_numbers=None, row_numbers=None, free_rows=None))
    assert_same_table(backend.export(new.state), snapshots.export(new.reference))
    assert_same("scores", backend.export(new.state).scores, saved.scores)


def test_into_a_table_that_holds_ids(backend: Recorded) -> None:
    """Ids it holds are overwritten, others inserted, the rest left."""
    saved = backend.export(_lived_in(backend).state)
    new = Pair(backend, make_spec(rows=12), SLOTS)
    new.lookup(IDS[:20] + (np.arange(20) % 2), TABLES[:20], clock=Clock(5))
    _restore(new, replace(saved, **dict.fromkeys(PLACED), next_row=0, buckets=0))
    assert_same_table(backend.export(new.state), snapshots.export(new.reference))


def test_slots_it_lacks_begin_anew(backend: Recorded) -> None:
    saved = replace(backend.export(_lived_in(backend).state), slots={})
    new = Pair(backend, make_spec(rows=12), SLOTS)
    _restore(new, saved)
    assert backend.export(new.state).slots["m"].eq(0.5).all()


def test_empty_table(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(), SLOTS)
    saved = backend.export(pair.state)
    assert_same_table(saved, snapshots.export(pair.reference))
    _restore(pair, saved)
    pair.check()


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": torch.zeros(33, 7)},
        {"weights": torch.zeros(33, 8).to(torch.bfloat16)},
        {"slots": {"s": torch.zeros(33, 8)}},
    ],
    ids=["dim", "dtype", "width"],
)
def test_what_does_not_fit_is_refused(backend: Recorded, wrong: dict) -> None:
    saved = backend.export(_lived_in(backend).state)
    new = Pair(backend, make_spec(rows=12), SLOTS)
    with pytest.raises(ValueError):
        backend.restore(new.state, replace(saved, **wrong))
    new.check()


def test_a_snapshot_is_a_copy(backend: Recorded) -> None:
    pair = _lived_in(backend)
    saved = backend.export(pair.state)
    before = saved.weights.clone()
    hyper = np.array([[0.5, 0, 0]] * 3, np.float32)
    pair.update(IDS[16:], TABLES[16:], np.ones((24, 8)), UpdateRule("sgd"), hyper, factor=1.0, t=(2, 2, 2))
    assert_same("weights", saved.weights, before)
    saved.weights.fill_(9)
    pair.check_values()


def test_erase(backend: Recorded) -> None:
    """Unknown keys are ignored; the highest row is given out first."""
    pair = _lived_in(backend)
    pair.erase(IDS[:8], TABLES[:8])
    pair.erase(IDS[:8], TABLES[:8])
    pair.erase(IDS[:0], TABLES[:0])
    pair.check_placement()
    pair.lookup(IDS[:3], TABLES[:3], clock=Clock(4))
    assert backend.counters(pair.state) == pair.reference.counters()
    pair.check_values()


def test_an_erased_id_begins_anew(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(), SLOTS)
    pair.lookup(IDS, TABLES)
    hyper = np.array([[0.5, 0, 0]] * 3, np.float32)
    pair.update(IDS, TABLES, np.ones((40, 8)), UpdateRule("sgd"), hyper, factor=1.0, t=(1, 1, 1))
    pair.erase(IDS, TABLES)
    pair.lookup(IDS, TABLES)
    pair.check()


def test_programs(backend: Recorded) -> None:
    assert backend.programs() >= 0
