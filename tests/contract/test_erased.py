"""Erased ids stay erased, also where a free way's tag resembles theirs."""

import torch

from recis_core.backends import Clock, LookupMode, get
from tests.contract.pair import make_spec

FIND = LookupMode(insert=False, touch=False)


def test_numba_does_not_find_what_a_free_way_held() -> None:
    """A tag of 1 beside a free way, whose tag is 0: the two differ in a bit that subtraction borrows from."""
    backend, ids = get("numba"), torch.arange(200_000)
    tables = torch.zeros(len(ids), dtype=torch.int32)
    state = backend.create(make_spec(1))
    state, _, _ = backend.lookup(state, ids, tables, mode=LookupMode(), clock=Clock())
    gone = ids % 2 == 0
    state = backend.erase(state, ids[gone], tables[gone])
    _, rows, _ = backend.lookup(state, ids, tables, mode=FIND, clock=Clock())
    assert (rows[gone] == -1).all()
    assert (rows[~gone] >= 0).all()


def test_numba_does_not_find_zero_in_a_way_never_used() -> None:
    backend, ids = get("numba"), torch.arange(1, 100_000)
    for table in range(3):
        tables = torch.full((len(ids),), table, dtype=torch.int32)
        state, _, _ = backend.lookup(backend.create(make_spec(1)), ids, tables, mode=LookupMode(), clock=Clock())
        _, rows, _ = backend.lookup(state, ids[:1] * 0, tables[:1], mode=FIND, clock=Clock())
        assert rows.tolist() == [-1]
