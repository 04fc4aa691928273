"""gather_pool in interpret mode against float64 numpy."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recis_core.pallas_kernels import PoolConfig, gather_pool
from recis_core.pallas_kernels.operands import SCALED
from tests.kernels import reference
from tests.kernels.bags import DIMS, DTYPES, RTOL, bags, offsets_of, table
from tests.kernels.reference import close, same_bits

ROWS = 50
jitted = jax.jit(gather_pool, static_argnames=("combiner", "tile_len", "out_dtype", "config", "interpret"))


def pooled(stored, ids, offsets, weights=None, scale=None, **options):
    weights = None if weights is None else jnp.asarray(weights)
    return jitted(stored, jnp.asarray(ids), jnp.asarray(offsets), weights, scale, interpret=True, **options)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dim_and_dtype(dtype, dim):
    rng = np.random.default_rng(dim)
    t = table(rng, ROWS, dim, dtype, scaled=dtype in SCALED)
    ids, offsets, weights = bags(rng, 23, ROWS)
    weights = weights if dim % 2 else None
    got = pooled(t.stored, ids, offsets, weights, t.scale, combiner="mean")
    assert got.dtype == jnp.float32
    close(got, reference.pool(t.meaning, ids, offsets, weights, "mean"), 1e-5)


@pytest.mark.parametrize(
    ("combiner", "dtype"),
    [
        *[(combiner, "float32") for combiner in ("sum", "mean", "sqrtn", "none", "tile")],
        *[("mean", dtype) for dtype in ("bfloat16", "float16", *SCALED)],
        *[("sqrtn", "bfloat16"), ("none", "float16"), ("tile", "int8"), ("sum", "float8_e4m3fn")],
    ],
)
def test_every_combiner_and_dtype(combiner, dtype):
    rng = np.random.default_rng(1)
    t = table(rng, ROWS, 7, dtype)
    ids, offsets, weights = bags(rng, 23, ROWS)
    tile_len = 3 if combiner == "tile" else None
    out_dtype = jnp.float32 if dtype in SCALED else t.stored.dtype
    got = pooled(t.stored, ids, offsets, weights, t.scale, combiner=combiner, tile_len=tile_len, out_dtype=out_dtype)
    assert got.dtype == out_dtype
    close(got, reference.pool(t.meaning, ids, offsets, weights, combiner, tile_len), RTOL[dtype])


@pytest.mark.parametrize("rows", [1, 2])
def test_one_row_table_and_same_id_500_times(rows):
    t = table(np.random.default_rng(10), rows, 7)
    ids = np.full(500, rows - 1, np.int32)
    close(pooled(t.stored, ids, [0, 499, 500]), t.meaning[[rows - 1] * 2] * [[499], [1]], 1e-5)


def test_odd_sizes():
    rng = np.random.default_rng(2)
    t = table(rng, ROWS, 123)
    ids = rng.integers(0, ROWS, 123).astype(np.int32)
    offsets = np.array([0, 0, 50, 51, 120, 123], np.int32)
    close(pooled(t.stored, ids, offsets), reference.pool(t.meaning, ids, offsets, None, "sum"), 1e-5)


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
def test_bags_without_ids_or_weight_give_zeros(combiner):
    t = table(np.random.default_rng(3), ROWS, 8)
    assert pooled(t.stored, np.zeros(0, np.int32), np.zeros(6, np.int32), combiner=combiner).tolist() == [[0.0] * 8] * 5
    assert pooled(t.stored, np.zeros(0, np.int32), np.zeros(1, np.int32), combiner=combiner).shape == (0, 8)
    weightless = pooled(t.stored, [1, 2], [0, 0, 2], np.zeros(2, np.float32), combiner=combiner)
    assert weightless.tolist() == [[0.0] * 8] * 2


def test_unknown_row_reads_zeros_and_counts_in_the_mean():
    t = table(np.random.default_rng(4), ROWS, 8)
    got = pooled(t.stored, [3, -1], [0, 2], combiner="mean")
    close(got, t.meaning[3:4] / 2, 1e-6)


@pytest.mark.parametrize("combiner", ["sum", "none"])
def test_ids_past_the_last_offset_are_padding(combiner):
    t = table(np.random.default_rng(8), ROWS, 8)
    got = np.asarray(pooled(t.stored, [3, 4, 1 << 30], [0, 1, 2], combiner=combiner))
    close(got[:2], t.meaning[[3, 4]], 1e-6)
    assert not got[2:].any()


def test_tile_longer_than_every_bag():
    rng = np.random.default_rng(5)
    t = table(rng, ROWS, 7)
    ids, offsets, weights = bags(rng, 5, ROWS, longest=4)
    got = pooled(t.stored, ids, offsets, weights, combiner="tile", tile_len=6)
    close(got, reference.pool(t.meaning, ids, offsets, weights, "tile", 6), 1e-6)


def test_same_bits_on_every_run_and_for_every_config():
    rng = np.random.default_rng(6)
    t = table(rng, ROWS, 16)
    ids = rng.integers(0, ROWS, 5300).astype(np.int32)
    offsets = offsets_of([5000, 0, 300])
    first = pooled(t.stored, ids, offsets)
    same_bits(pooled(t.stored, ids, offsets), first)
    for config in (PoolConfig(1, 1, 1), PoolConfig(2, 8, 8)):
        same_bits(pooled(t.stored, ids, offsets, config=config), first)


@pytest.mark.parametrize("dtype", SCALED)
def test_two_columns_a_word_read_the_same(dtype, monkeypatch):
    """What tables of 2 to 4 GiB are read by, on one that fits here."""
    rng = np.random.default_rng(9)
    t = table(rng, ROWS, 10, dtype)
    ids, offsets, weights = bags(rng, 9, ROWS)
    arrays = *(jnp.asarray(x) for x in (t.stored, ids, offsets, weights)), t.scale
    expected = gather_pool(*arrays, combiner="mean", interpret=True)
    module = sys.modules[gather_pool.__module__]
    monkeypatch.setattr(module, "stored", lambda x: jax.lax.bitcast_convert_type(x.reshape(ROWS, 5, 2), jnp.int16))
    close(gather_pool(*arrays, combiner="mean", interpret=True), expected, 1e-6)  # XLA fuses multiply and add elsewhere


def test_errors_name_the_argument():
    t = table(np.random.default_rng(7), ROWS, 8)
    with pytest.raises(ValueError, match="combiner must be one of"):
        pooled(t.stored, [1], [0, 1], combiner="max")
    with pytest.raises(ValueError, match="tile_len goes with"):
        pooled(t.stored, [1], [0, 1], combiner="tile")
    with pytest.raises(ValueError, match="weights must have shape"):
        pooled(t.stored, [1], [0, 1], np.ones(2, np.float32))
    with pytest.raises(TypeError, match="an int8 table needs scale"):
        pooled(t.stored.astype(jnp.int8), [1], [0, 1])
    with pytest.raises(TypeError, match="rows must be int32"):
        gather_pool(t.stored, jnp.ones(1), jnp.zeros(2, jnp.int32), interpret=True)
    with pytest.raises(ValueError, match="power of two"):
        PoolConfig(3, 1, 4)


def test_the_comparisons_can_fail():
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        close([1.0], [1.001], 1e-5)
    with pytest.raises(AssertionError, match="shape"):
        close([1.0], [[1.0]], 1e-5)
    with pytest.raises(AssertionError, match="bits differ"):
        same_bits(np.float32(0.0), np.float32(-0.0))
