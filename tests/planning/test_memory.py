"""Bytes of a table on a rank: by hand, against a real table, and against a real hash."""

import numpy as np
import pytest

from recis_core.backends import SlotSpec, TableSpec, get, placement
from recis_core.options.sharding import Sharding
from recis_core.planning.cluster import Cluster
from recis_core.planning.memory import footprint, fullest_rows, slot_bytes
from recis_core.planning.model_file import Feature, Links, TableSize


def table(rows=1_000_000, dim=64, **changes):
    return TableSize(name="t", rows=rows, dim=dim, features=(Feature(pooling_factor=1),), **changes)


def cluster(world):
    return Cluster.of(world, Links())


def index(rows):
    return placement.initial_buckets(rows) * 16 * 24


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        ("sgd", 0),
        *((adam, 2 * 4 * 10) for adam in ("adam", "adamw", "adamwtf")),
        ("adagrad", 4 * 10),
        ("rowwise_adagrad", 4),
    ],
)
def test_slots(optimizer, slots):
    assert slot_bytes(table(optimizer=optimizer), 10) == slots


def test_by_hand():
    adam = 64 * 4 * 3
    sizes = {
        "replicated": 1_000_000 * adam + index(1_000_000),
        "table:3": 1_000_000 * adam + index(1_000_000),
        "column": 1_000_000 * adam / 8 + index(1_000_000),
        "row": 125_000 * adam + index(125_000),
        "row+hot(1000)": 126_000 * adam + index(125_000) + index(1000),
    }
    for text, size in sizes.items():
        got = footprint(table(), Sharding.parse(text), cluster(8))
        assert got.mean == size, text
        assert size <= got.fullest <= 1.01 * size, text
        assert got.owner == (3 if text == "table:3" else None)
    half = footprint(table(dtype="bfloat16", optimizer="sgd"), Sharding("replicated"), cluster(8))
    assert half.mean == 1_000_000 * 128 + index(1_000_000)
    residual = footprint(table(dtype="bfloat16", optimizer="sgd"), Sharding("replicated"), cluster(8), residual=True)
    assert residual.mean - half.mean == 1_000_000 * 256


@pytest.mark.parametrize("rows", [1000, 30_000, 98_305])
def test_as_a_real_table_takes(rows):
    """The rest: a byte a slot of the hash's tags, numbers of buckets, and the stash, which all tables of a kind share."""
    numba = get("numba")
    state = numba.create(TableSpec(dim=32, uids=(1,), rows=rows))
    state = numba.add_slots(state, (SlotSpec("m", 32), SlotSpec("v", 32)))
    entries = state.index.entries
    real = state.weights.nbytes + sum(s.nbytes for s in state.slots.values()) + entries.nbytes - 1024 * entries.itemsize
    assert footprint(table(rows=rows, dim=32), Sharding(), cluster(1)).fullest == real


@pytest.mark.parametrize(("rows", "world"), [(10_000, 8), (200_000, 3), (300_000, 64)])
def test_the_fullest_rank_as_the_hash_fills_it(rows, world):
    """The mean of 20 tables' fullest ranks, within 2 %."""
    fullest = []
    for uid in range(20):
        slices = placement.slices(np.arange(rows) * 7919, np.uint32(uid)).astype(np.int64)
        fullest.append(np.bincount(slices * world >> 16, minlength=world).max())
    assert fullest_rows(rows, cluster(world)) == pytest.approx(np.mean(fullest), rel=0.02)
    assert fullest_rows(rows, cluster(1)) == rows
