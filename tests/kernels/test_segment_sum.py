"""segment_sum in interpret mode against float64 numpy, and against its order of summation bit for bit."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recis_core.pallas_kernels import PoolConfig, segment_sum
from tests.kernels import reference
from tests.kernels.bags import DIMS, RTOL, offsets_of, table
from tests.kernels.reference import chunked_sum, close, same_bits

SOURCES = 40
jitted = jax.jit(segment_sum, static_argnames=("config", "interpret"))
LENGTHS = [3, 0, 255, 1, 256, 0, 257, 40]


def summed(values, sources, offsets, weights=None, **options):
    weights = None if weights is None else jnp.asarray(weights)
    return jitted(values, jnp.asarray(sources), jnp.asarray(offsets), weights, interpret=True, **options)


def occurrences(rng, lengths):
    count = int(np.sum(lengths))
    sources = rng.integers(-1, SOURCES, count).astype(np.int32)
    return sources, offsets_of(lengths), rng.random(count).astype(np.float32)


@pytest.mark.parametrize("dim", DIMS)
def test_every_dim(dim):
    rng = np.random.default_rng(dim)
    values = table(rng, SOURCES, dim)
    sources, offsets, weights = occurrences(rng, LENGTHS)
    got = summed(values.stored, sources, offsets, weights)
    assert got.dtype == jnp.float32
    close(got, reference.segment_sum(values.meaning, sources, offsets, weights), 1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gradients_sum_in_float32(dtype):
    rng = np.random.default_rng(1)
    values = table(rng, SOURCES, 8, dtype)
    sources, offsets, weights = occurrences(rng, LENGTHS)
    got = summed(values.stored, sources, offsets, weights)
    close(got, reference.segment_sum(values.meaning, sources, offsets, weights), RTOL["float32"])


def test_hot_id_5000_times_in_the_format_s_order():
    rng = np.random.default_rng(2)
    values = table(rng, SOURCES, 16)
    lengths = [2, 5000, 1]
    sources, offsets, _ = occurrences(rng, lengths)
    sources = np.maximum(sources, 0)
    got = summed(values.stored, sources, offsets)
    close(got, reference.segment_sum(values.meaning, sources, offsets, None), 1e-5)
    rows = np.asarray(values.stored)[sources]
    expected = [chunked_sum(rows[b:e]) for b, e in pairwise(offsets)]
    same_bits(got, np.stack(expected))
    same_bits(summed(values.stored, sources, offsets), got)
    same_bits(summed(values.stored, sources, offsets, config=PoolConfig(2, 2, 2)), got)


def test_one_source_500_times_and_odd_sizes():
    rng = np.random.default_rng(6)
    one, many = table(rng, 1, 7), table(rng, 5, 123)
    got = summed(one.stored, np.zeros(500, np.int32), [0, 0, 500])
    close(got, np.concatenate([0 * one.meaning, 500 * one.meaning]), 1e-5)
    sources, offsets = rng.integers(0, 5, 123).astype(np.int32), [0, 0, 51, 120, 123]
    close(summed(many.stored, sources, offsets), reference.segment_sum(many.meaning, sources, offsets, None), 1e-5)


def test_occurrences_past_the_last_segment_are_padding():
    rng = np.random.default_rng(3)
    values = table(rng, SOURCES, 7)
    sources, offsets, weights = occurrences(rng, [300, 2, 700])
    got = summed(values.stored, sources, offsets[:3], weights)
    close(got, reference.segment_sum(values.meaning, sources, offsets[:3], weights), 1e-5)


def test_nothing_to_sum():
    values = table(np.random.default_rng(4), SOURCES, 7).stored
    nobody = np.zeros(0, np.int32)
    assert summed(values, nobody, np.zeros(4, np.int32)).tolist() == [[0.0] * 7] * 3
    assert summed(values, nobody, np.zeros(1, np.int32)).shape == (0, 7)


def test_errors_name_the_argument():
    values = table(np.random.default_rng(5), SOURCES, 7).stored
    with pytest.raises(TypeError, match="sources must be int32"):
        summed(values, np.zeros(2, np.float32), [0, 2])
    with pytest.raises(ValueError, match="values must have shape"):
        summed(values[0], np.zeros(2, np.int32), [0, 2])
