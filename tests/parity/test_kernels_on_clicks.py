"""The kernels that work on ids, on the real click log: number, find, insert and pack ids as they come, duplicates and all."""

import glob

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pyarrow import orc

from recis_core import pallas_kernels as pk
from recis_core.backends import placement
from recis_core.backends.jax_backend.hashing import FORM
from recis_core.backends.jax_backend.state import empty_index
from tests.parity.click_log import click_log

ROWS, STEPS = 400, 3  # of the log a step; interpreted kernels are slow


@pytest.fixture(scope="module")
def clicks():
    """(uids, ids) of each step: every id of 26 columns, in the log's order."""
    rows = orc.read_table(sorted(glob.glob(click_log()))[0]).slice(0, ROWS * STEPS).to_pydict()
    steps = []
    for begin in range(0, ROWS * STEPS, ROWS):
        pairs = [(c, i) for c in range(1, 27) for ids in rows[f"c{c}"][begin : begin + ROWS] for i in ids]
        steps.append((np.array([c for c, _ in pairs], np.uint32), np.array([i for _, i in pairs], np.int64)))
    return steps


def halves(ids):
    bits = ids.view(np.uint64)
    return jnp.asarray(bits.astype(np.uint32)), jnp.asarray((bits >> np.uint64(32)).astype(np.uint32))


def lookup(index, uids, ids, step):
    """Find or insert, as a training step does: (index, rows, new keys)."""
    lo, hi = halves(ids)
    keys = pk.Keys(lo, hi, jnp.asarray(uids))
    valid, step = jnp.ones(len(ids), bool), jnp.array([step], jnp.int32)
    index, found = pk.probe(index, keys, valid, step, form=FORM, touch=pk.Touch(), interpret=True)
    missing = pk.dedup(keys, valid & (found.entry < 0), interpret=True)
    numbers = (missing.count, jnp.int32(2**31 - 1), step[0], step[0], step[0])
    index, inserted = pk.bulk_insert(index, missing.keys, pk.Settings(*numbers), form=FORM, interpret=True)
    given = inserted.rows[jnp.maximum(missing.inverse, 0)]
    return index, jnp.where(missing.inverse >= 0, given, found.rows), int(missing.count), bool(inserted.failed)


def test_every_key_keeps_one_row(clicks):
    index = empty_index(placement.initial_buckets(20_000), 20_000, jax.devices()[0])
    known = {}
    for step, (uids, ids) in enumerate(clicks):
        index, rows, new, failed = lookup(index, uids, ids, step)
        pairs = list(zip(uids.tolist(), ids.tolist(), strict=True))
        fresh = sorted(set(pairs) - known.keys())
        assert not failed
        assert new == len(fresh)
        known |= {pair: len(known) + n for n, pair in enumerate(fresh)}  # rows in key order, from the first unused
        assert rows.tolist() == [known[pair] for pair in pairs]
    assert len(known) > 3000


def test_unique_ids_pack_into_fewer_bytes_and_come_back(clicks):
    _, ids = clicks[0]
    unique = np.unique(ids)
    lo, hi = halves(unique)
    packed = pk.pack_ids(hi, lo, jnp.int32(len(unique)), interpret=True)
    back = pk.unpack_ids(packed, size=len(unique), interpret=True)
    assert (np.asarray(back[0]) == np.asarray(hi)).all()
    assert (np.asarray(back[1]) == np.asarray(lo)).all()
    assert 4 * int(packed.length) + 12 * len(packed.widths) < 8 * len(unique)
