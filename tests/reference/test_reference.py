"""The reference itself: its pooling gradient by finite differences, its table by what must always hold.

Sizes: N ids, U unique ids, D dim.
"""

from contextlib import suppress

import numpy as np
import pytest
import torch

from recis_core.backends import Clock, LookupMode, TableSpec
from recis_core.backends.errors import TableFull
from tests.reference.pooling import pool, pool_grad
from tests.reference.rounding import nearest_bfloat16, noisy_bfloat16
from tests.reference.rules import step
from tests.reference.table import ReferenceTable, W

U, D = 4, 3
OFFSETS, INVERSE = np.array([0, 0, 3, 7, 7]), np.array([2, 0, 2, 1, 3, 3, 0])


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn", "tile", "none"])
def test_pool_grad_by_finite_differences(combiner: str) -> None:
    """Central differences of <grad, pool>: error h² at h = 1e-5."""
    rng = np.random.default_rng(1)
    rows, weights = rng.normal(size=(U, D)), rng.uniform(0.5, 2, len(INVERSE))
    how = (INVERSE, OFFSETS)
    grad = rng.normal(size=pool(rows, *how, weights, combiner, 2).shape)
    to_rows, to_weights = pool_grad(grad, rows, *how, weights, combiner, 2)
    by_rows = _differences(lambda x: (grad * pool(x, *how, weights, combiner, 2)).sum(), rows)
    by_weights = _differences(lambda x: (grad * pool(rows, *how, x, combiner, 2)).sum(), weights)
    np.testing.assert_allclose(to_rows, by_rows, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(to_weights, by_weights, rtol=1e-7, atol=1e-8)


def _differences(f, x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    out = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += h
        down[at] -= h
        out[at] = (f(up) - f(down)) / (2 * h)
    return out


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_pool_is_that_of_torch(mode: str) -> None:
    rows = np.random.default_rng(2).normal(size=(U, D))
    want = torch.nn.functional.embedding_bag(
        torch.from_numpy(INVERSE), torch.from_numpy(rows), torch.from_numpy(OFFSETS[:-1]), mode=mode
    )
    np.testing.assert_allclose(pool(rows, INVERSE, OFFSETS, None, mode), want.numpy(), rtol=1e-12)


def test_adam_is_that_of_behaviour() -> None:
    """Three steps at lr 1e-3 in float64: RecIS's numbers for SparseAdam."""
    from recis_core.backends import UpdateRule

    w, slots = np.array([1.0, -2.0]), [np.zeros(2), np.zeros(2)]
    for t, g in enumerate(np.array([[0.1, -0.2], [0.3, 0.1], [-0.05, 0]]), 1):
        alpha = -1e-3 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        hyper = np.array([alpha, 0.9, 1 - 0.9, 0.999, 1 - 0.999, 1e-8, 1.0])
        w, slots = step(UpdateRule("adam", ("m", "v")), w, g, slots, hyper)
    np.testing.assert_allclose(w, [0.9974813102001914, -1.9985277859061172], rtol=1e-14)


def test_nearest_bfloat16_is_that_of_torch() -> None:
    values = np.random.default_rng(3).normal(size=10_000).astype(np.float32)
    values[:4] = 1.00390625, 1.01171875, np.inf, np.nan  # two ties
    want = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(nearest_bfloat16(values), want)


def test_noise_rounds_to_the_mean() -> None:
    values = np.full(65_536, 1.001, np.float32)
    rounded = noisy_bfloat16(values, np.arange(65_536))
    assert set(rounded.tolist()) == {1.0, 1.0078125}
    assert abs(rounded.mean(dtype=np.float64) - 1.001) < 1e-6


@pytest.mark.parametrize("evict", [False, True])
def test_every_key_is_in_one_of_its_places(evict: bool) -> None:
    """Random calls; then: rows are distinct, ways are candidates, free and used rows are all rows."""
    table = ReferenceTable(TableSpec(1, (9, 4), max_rows=90, evict=evict))
    rng = np.random.default_rng(4)
    for now in range(1, 40):
        keys = rng.choice(300, 20, replace=False)
        with suppress(TableFull):
            table.lookup(keys // 2, keys % 2, LookupMode(), Clock(now, now))
        table.erase(keys[:6] // 2, keys[:6] % 2)
        _check_places(table)
    assert bool(table.counted.evicted) == evict


def _check_places(table: ReferenceTable) -> None:
    rows = [entry.row for entry in table.entries.values()]
    assert sorted(rows + table.free_rows) == list(range(table.next_row))
    assert table.next_row <= 90
    assert sorted(map(id, [*table.ways.values(), *table.stash])) == sorted(map(id, table.entries.values()))
    for slot, entry in table.ways.items():
        assert entry.slot == slot
        assert slot // W in (entry.a & (table.buckets - 1), entry.b & (table.buckets - 1))


def test_full_table_goes_back() -> None:
    table = ReferenceTable(TableSpec(1, (9,), max_rows=10, score="count"))
    ids = np.arange(10)
    table.lookup(ids, ids * 0, LookupMode(), Clock(1))
    before = [(e.key, e.score, e.stamp, e.slot) for e in table.entries.values()], table.counters()
    with pytest.raises(TableFull):
        table.lookup(ids + 5, ids * 0, LookupMode(), Clock(2))
    assert ([(e.key, e.score, e.stamp, e.slot) for e in table.entries.values()], table.counters()) == before
