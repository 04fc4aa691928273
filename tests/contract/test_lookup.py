"""lookup and gather: named cases against the sequential reference. Long random runs: test_placement.py."""

import numpy as np
import pytest
import torch

from recis_core.backends import Clock, LookupMode
from recis_core.backends.errors import TableFull
from tests.contract.cases import EXTREME
from tests.contract.compare import assert_close, assert_same
from tests.contract.pair import Pair, make_spec, tensors
from tests.contract.recorded import Recorded

FIND = LookupMode(insert=False)
IDS = np.array([5, -3, 2**60, 7, -(2**55)])
TABLES = np.array([0, 1, 2, 1, 0], np.int32)


def test_insert_then_find(backend: Recorded) -> None:
    pair = Pair(backend, make_spec())
    first = pair.lookup(IDS, TABLES, clock=Clock(3, 2))
    again = pair.lookup(IDS[::-1].copy(), TABLES[::-1].copy(), clock=Clock(4, 2))
    assert_same("rows", again.flip(0), first)
    pair.check()


def test_extreme_ids_in_every_table(backend: Recorded) -> None:
    ids = np.tile(np.array(EXTREME), 3)
    pair = Pair(backend, make_spec())
    pair.lookup(ids, np.repeat(np.arange(3), len(EXTREME)))
    pair.check()


def test_no_ids(backend: Recorded) -> None:
    pair = Pair(backend, make_spec())
    assert pair.lookup(IDS[:0], TABLES[:0]).dtype == torch.int32
    pair.lookup(IDS[:0], TABLES[:0], FIND)
    pair.check()


def test_one_row_table(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(max_rows=1))
    pair.lookup(IDS[:1], TABLES[:1])
    pair.lookup(IDS[:1], TABLES[:1], clock=Clock(1))
    pair.check()


def test_one_row_table_evicts(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(max_rows=1, evict=True))
    for step in range(1, 4):
        pair.lookup(IDS[step : step + 1], TABLES[step : step + 1], clock=Clock(step, step))
    pair.check()


def test_find_leaves_unknown_ids_out(backend: Recorded) -> None:
    pair = Pair(backend, make_spec())
    pair.lookup(IDS[:3], TABLES[:3])
    rows = pair.lookup(IDS, TABLES, FIND, Clock(2))
    assert rows.tolist()[3:] == [-1, -1]
    assert backend.counters(pair.state).unknown == 2
    pair.check()


def test_recomputing_leaves_scores_and_counters(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(score="count"))
    pair.lookup(IDS, TABLES, clock=Clock(1))
    before = backend.counters(pair.state)
    pair.lookup(IDS, TABLES, LookupMode(touch=False), Clock(9))
    pair.lookup(IDS + 1, TABLES, LookupMode(insert=False, touch=False), Clock(9))
    assert backend.counters(pair.state) == before
    pair.check()


@pytest.mark.parametrize("score", ["step", "count"])
def test_scores_count_calls(backend: Recorded, score: str) -> None:
    pair = Pair(backend, make_spec(score=score))
    for step in (1, 5, 6):
        pair.lookup(IDS, TABLES, clock=Clock(step))
    pair.lookup(IDS[:2], TABLES[:2], FIND, Clock(8))
    pair.check()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("unknown", ["zeros", "initial"])
def test_gather(backend: Recorded, dtype: str, unknown: str) -> None:
    pair = Pair(backend, make_spec(dtype=dtype))
    pair.lookup(IDS[:3], TABLES[:3])
    rows = pair.lookup(IDS, TABLES, FIND)
    got = backend.gather(pair.state, rows, *tensors(IDS, TABLES), unknown=unknown)
    assert_same("gathered", got, torch.from_numpy(pair.reference.gather(IDS, TABLES, unknown)))


def test_gather_of_nothing(backend: Recorded) -> None:
    pair = Pair(backend, make_spec())
    rows = pair.lookup(IDS[:0], TABLES[:0])
    assert_close(
        "gathered", backend.gather(pair.state, rows, *tensors(IDS[:0], TABLES[:0])), np.zeros((0, 8)), torch.float32
    )


def test_full_table_is_left_as_it_was(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(max_rows=20))
    pair.lookup(np.arange(15), np.zeros(15, np.int32), clock=Clock(1))
    with pytest.raises(TableFull):
        pair.lookup(np.arange(10, 21), np.zeros(11, np.int32), clock=Clock(2))
    pair.lookup(np.arange(5, 20), np.zeros(15, np.int32), clock=Clock(3))
    pair.check()


def test_full_of_pinned_ids(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(max_rows=20, evict=True))
    pair.lookup(np.arange(20), np.zeros(20, np.int32), clock=Clock(1))
    with pytest.raises(TableFull):
        pair.lookup(np.arange(15, 25), np.zeros(10, np.int32), clock=Clock(2, 1))
    pair.lookup(np.arange(15, 25), np.zeros(10, np.int32), clock=Clock(2, 2))
    pair.check()
