"""Placement is bit-equal to the sequential reference over random runs of calls.

Sizes: U unique ids.
"""

from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import pytest

from recis_core.backends import Clock, LookupMode, SlotSpec, UpdateRule, placement
from recis_core.backends.errors import TableFull
from tests.contract.cases import UIDS
from tests.contract.pair import Pair, make_spec
from tests.contract.recorded import Recorded

JAX_ONLY_IN_FULL = pytest.mark.parametrize(  # half a minute of compilation for two sizes met nowhere else
    "compiled_backend", ["torch", "numba", pytest.param("jax", marks=pytest.mark.full)], indirect=True
)
U = 24  # one size, so that JAX compiles once
SLOTS = (SlotSpec("m", 8, 0.5), SlotSpec("s", 1, 0.25))


def _draw(rng: np.random.Generator, high: int) -> tuple[np.ndarray, np.ndarray]:
    """U unique keys, in random order."""
    keys = rng.choice(3 * high, U, replace=False)
    return (keys // 3 - high // 2) * 2**33, (keys % 3).astype(np.int32)


def _step(pair: Pair, rng: np.random.Generator, step: int, high: int, pinned: int) -> None:
    mode = LookupMode(insert=rng.random() < 0.8, touch=bool(rng.random() < 0.9))
    mode = mode if mode.touch else LookupMode(insert=False, touch=False)
    with suppress(TableFull):  # Pair.lookup has seen that both sides are, and that nothing changed
        pair.lookup(*_draw(rng, high), mode, Clock(step, max(step - pinned, 0)))
    if rng.random() < 0.3:
        pair.erase(*_draw(rng, high))


@pytest.mark.parametrize("score", ["step", "count"])
@pytest.mark.parametrize("pinned", [0, 1])
def test_evicting_table(backend: Recorded, score: str, pinned: int) -> None:
    """Ways, rows and ties run out; two steps of pins in a table of 60 rows leave few victims."""
    pair = Pair(backend, make_spec(max_rows=60, evict=True, score=score), SLOTS)
    rng = np.random.default_rng(5)
    for step in range(1, 17):
        _step(pair, rng, step, 40, pinned)
        if step % 4 == 0:
            pair.check()
    assert pair.reference.counters().evicted > 50


def test_growing_table(backend: Recorded) -> None:
    pair = Pair(backend, make_spec(rows=24), SLOTS)
    rng = np.random.default_rng(6)
    for step in range(1, 11):
        _step(pair, rng, step, 200, 0)
        if step % 2 == 0:
            pair.check()
    assert pair.reference.counters().buckets >= 16


def test_bounded_table(backend: Recorded) -> None:
    """max_rows without evict: it fills, never grows, and takes ids again after an erase."""
    pair = Pair(backend, make_spec(max_rows=70, score="count"))
    rng = np.random.default_rng(7)
    for step in range(1, 13):
        ids, tables = _draw(rng, 90)
        room = 70 - pair.reference.counters().rows
        mode = LookupMode(insert=room >= U)
        pair.lookup(ids, tables, mode, Clock(step, step))
        if room < U:
            pair.erase(ids, tables)
    pair.check()


def test_one_bucket_fills(backend: Recorded) -> None:
    """12 rows: one bucket of 16 ways, where both hash words agree."""
    pair = Pair(backend, make_spec(max_rows=12))
    pair.lookup(np.arange(12), np.zeros(12, np.int32), clock=Clock(1))
    pair.check()


@pytest.mark.parametrize("more", [60, 300], ids=["one_doubling", "two_doublings"])
def test_stash(backend: Recorded, more: int) -> None:
    """40 ids of one pair of buckets: 32 ways, the rest is stashed, found, erased, and grown out."""
    ids = ids_of_buckets(40, (2, 5))
    tables = np.zeros(len(ids), np.int32)
    pair = Pair(backend, make_spec(), SLOTS)  # 8 buckets
    pair.lookup(ids, tables, clock=Clock(1))
    assert pair.reference.counters().stashed >= 8
    pair.check()
    pair.lookup(ids[::3].copy(), tables[::3].copy(), clock=Clock(2))
    stashed = [u for u, key in enumerate(pair.reference.keys(ids, tables)) if pair.reference.entries[key].slot is None]
    pair.erase(ids[stashed[1:4]], tables[stashed[1:4]])
    pair.check()
    pair.lookup(ids[stashed[2:4]], tables[stashed[2:4]], clock=Clock(3))
    pair.check()
    pair.lookup(np.arange(2**50, 2**50 + more), np.ones(more, np.int32), clock=Clock(4))
    assert pair.reference.counters().buckets == {60: 16, 300: 32}[more]
    pair.check()


def test_last_round_fills_a_bucket(backend: Recorded) -> None:
    """All ids ask bucket 2 first and 5 second, in turn: 8 rounds, of which the last takes all that is left."""
    ids = ids_of_buckets(40, (2, 5), in_order=True)
    pair = Pair(backend, make_spec())
    pair.lookup(ids, np.zeros(40, np.int32))
    pair.check()


@JAX_ONLY_IN_FULL
def test_full_stash(compiled_backend: Recorded) -> None:
    """Ids of 4 of 128 buckets: past 64 ways and 1,024 stash entries the table is full, with rows to spare."""
    ids = ids_of_buckets(1_200, range(4), buckets=128, among=1_800_000)
    pair = Pair(compiled_backend, make_spec(dim=1, max_rows=1_536))
    done, size = 0, 1_056
    while size:
        pair.lookup(ids[done : done + size], np.zeros(size, np.int32))
        done, size = done + size, 1_024 - pair.reference.counters().stashed
    with pytest.raises(TableFull):
        pair.lookup(ids[done : done + 1], np.zeros(1, np.int32))
    pair.lookup(ids[:1_000], np.zeros(1_000, np.int32), clock=Clock(1))
    pair.check()


def test_stash_of_an_evicting_table(backend: Recorded) -> None:
    """Pinned ways drive ids to the stash, which is no victim; then it holds rows that ways lack."""
    ids = ids_of_buckets(44, (2, 5))
    tables = np.zeros(len(ids), np.int32)
    pair = Pair(backend, make_spec(max_rows=80, evict=True), SLOTS)  # 8 buckets
    pair.lookup(ids[:36], tables[:36], clock=Clock(1, 0))
    assert pair.reference.counters().stashed >= 4
    pair.lookup(ids[36:], tables[36:], clock=Clock(2, 2))
    pair.check()
    more = np.arange(45)
    pair.lookup(more, np.ones(45, np.int32), clock=Clock(3, 3))
    assert pair.reference.counters().evicted
    pair.check()


def ids_of_buckets(
    n: int, chosen: Iterable[int], *, buckets: int = 8, in_order: bool = False, among: int = 40_000
) -> np.ndarray:
    """n ids of the first table whose buckets, in a table of `buckets`, are two of those chosen (in their order)."""
    ids = np.arange(-among // 2, among // 2)
    _, a, b = (w & np.uint32(buckets - 1) for w in placement.hash_words(ids, np.uint32(UIDS[0])))
    fits = np.isin(a, list(chosen)) & np.isin(b, list(chosen)) & ((a < b) if in_order else (a != b))
    return ids[fits][:n].copy()


def test_more_new_ids_than_a_chunk(compiled_backend: Recorded) -> None:
    """40,000 new ids in one call: two chunks, the second after the first is placed."""
    ids = np.random.default_rng(8).permutation(np.arange(-20_000, 20_000) * 977)
    pair = Pair(compiled_backend, make_spec(dim=1, rows=33_000))
    pair.lookup(ids, (ids % 3).astype(np.int32), clock=Clock(1))
    pair.check()


def test_eviction_over_chunks(compiled_backend: Recorded) -> None:
    """The first chunk's ids are pinned for the second, which finds rows for some and evicts for the rest."""
    pair = Pair(compiled_backend, make_spec(dim=1, max_rows=49_152, evict=True))
    ids = np.arange(33_500) * 31
    pair.lookup(ids[:15_700], np.zeros(15_700, np.int32), clock=Clock(1))
    pair.lookup(ids - 10**9, np.zeros(33_500, np.int32), clock=Clock(2, 2))
    pair.check()


@JAX_ONLY_IN_FULL
def test_full_in_the_second_chunk(compiled_backend: Recorded) -> None:
    """The first chunk's evictions are undone."""
    pair = Pair(compiled_backend, make_spec(dim=1, max_rows=33_500, evict=True), (SlotSpec("m", 1, 0.5),))
    pair.lookup(np.arange(1_000), np.zeros(1_000, np.int32), clock=Clock(1))
    ids = np.arange(36_000) - 10**9
    tables = np.zeros(len(ids), np.int32)
    with pytest.raises(TableFull):
        pair.lookup(ids, tables, clock=Clock(2, 2))


def test_updates_do_not_move_rows(backend: Recorded) -> None:
    """Evicted keys come back with what updates wrote."""
    pair = Pair(backend, make_spec(max_rows=60, evict=True), SLOTS)
    rng = np.random.default_rng(9)
    hyper = np.zeros((3, 3), np.float32)
    hyper[:, 0] = [1.0, 0.5, 0.25]  # exact in float32, so that bits compare
    for step in range(1, 8):
        ids, tables = _draw(rng, 25)
        pair.lookup(ids, tables, clock=Clock(step, step))
        values = np.round(rng.normal(size=(U, 8)) * 4) / 4
        pair.update(ids, tables, values, UpdateRule("sgd"), hyper, factor=0.0 if step == 3 else 1.0, t=(step,) * 3)
    pair.check_values()
