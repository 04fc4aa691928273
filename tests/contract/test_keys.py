"""keys_from and rows_by_table: in the reference's places, after all that adds keys and takes them away."""

import numpy as np
import pytest

from recis_core.backends import Clock
from recis_core.backends.errors import TableFull
from tests.contract.pair import Pair, make_spec
from tests.contract.recorded import Recorded
from tests.contract.test_placement import ids_of_buckets
from tests.reference import snapshots

IDS, TABLES = np.arange(40) * 2**35 - 2**39, (np.arange(40) % 3).astype(np.int32)


def test_keys_that_came_and_went(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(rows=12))
    pair.check_keys()
    pair.lookup(IDS, TABLES, clock=Clock(1))  # grows
    pair.check_keys(33)
    pair.erase(np.concatenate([IDS[5:12], IDS[:3] + 1]), np.concatenate([TABLES[5:12], TABLES[:3]]))  # some unknown
    pair.check_keys()
    new = Pair(backend, make_spec(rows=12))
    saved = backend.export(pair.state)
    new.state = backend.restore(new.state, saved)
    snapshots.restore(new.reference, saved)
    new.check_keys()
    new.lookup(IDS[3:9], TABLES[3:9], clock=Clock(2))
    new.check_keys()


def test_keys_in_the_stash(backend: Recorded) -> None:
    pair, ids = Pair(backend, make_spec()), ids_of_buckets(40, (2, 5))
    pair.lookup(ids, np.zeros(40, np.int32))
    pair.check_keys(96)
    pair.erase(ids[::3], np.zeros(14, np.int32))
    pair.check_keys(96)


def test_keys_that_displaced_others(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(max_rows=45, evict=True))
    pair.lookup(IDS, TABLES, clock=Clock(1, 1))
    pair.lookup(IDS[20:32], (TABLES[20:32] + 1) % 3, clock=Clock(2, 2))
    assert pair.reference.counters().evicted
    pair.check_keys()


@pytest.mark.parametrize("tables", [1, 3])
def test_a_refused_call_leaves_counts(backend: Recorded, tables: int) -> None:
    pair = Pair(backend, make_spec(max_rows=30, uids=tuple(range(5, 5 + tables))))
    ordinals = TABLES % tables
    pair.lookup(IDS[:20], ordinals[:20])
    with pytest.raises(TableFull):
        pair.lookup(IDS, ordinals)
    pair.check_keys()
