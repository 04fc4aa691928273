"""quantise and dequantise in interpret mode and their jnp references against float64 numpy."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from recis_core.pallas_kernels import dequantise, quantise
from recis_core.pallas_kernels.reference import quantise as plain
from tests.kernels.bags import DIMS
from tests.kernels.reference import same_bits

LARGEST = {"int8": 127, "int4": 7, "float8_e4m3fn": 448, "float8_e5m2": 57344}
DTYPES = [*LARGEST, "bfloat16"]
STEP = {"int8": 0.5, "int4": 0.5, "float8_e4m3fn": 2**-4, "float8_e5m2": 2**-3, "bfloat16": 2**-8}
KERNEL = {
    "quantise": jax.jit(quantise, static_argnames=("dtype", "interpret")),
    "dequantise": jax.jit(dequantise, static_argnames=("dtype", "dim", "interpret")),
}
REFERENCE = {
    "quantise": jax.jit(plain.quantise, static_argnames=("dtype",)),
    "dequantise": jax.jit(plain.dequantise, static_argnames=("dtype", "dim")),
}


def both(name, *arrays, **options):
    return KERNEL[name](*arrays, interpret=True, **options), REFERENCE[name](*arrays, **options)


def rows(dim, seed=0, count=23):
    rng = np.random.default_rng(seed + dim)
    values = rng.standard_normal((count, dim)) * 10.0 ** rng.integers(-6, 6, (count, 1))
    return values.astype(np.float32), (0.01 * values).astype(np.float32)


def lost_at_most(x, scale, dtype):
    """Half a step of the code, float64 [U, D]."""
    if dtype.startswith("int"):
        return STEP[dtype] * np.broadcast_to(scale[:, None].astype(np.float64), x.shape)
    least = 0 if dtype == "bfloat16" else scale[:, None].astype(np.float64) * 2.0 ** (-9 if "e4m3" in dtype else -16)
    return np.maximum(np.abs(x) * STEP[dtype], least)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_there_and_back(dim, dtype):
    values, residual = rows(dim)
    found, again = both("quantise", values, residual, dtype=dtype)
    assert found.codes.shape == (23, -(-dim // 2) if dtype == "int4" else dim)
    assert found.codes.dtype == (jnp.uint8 if dtype == "int4" else jnp.dtype(dtype))
    assert (found.scale is None) == (dtype == "bfloat16")
    jax.tree.map(same_bits, found[:2], again[:2])
    x = values.astype(np.float64) + residual
    back, plainly = both("dequantise", found.codes, found.scale, dtype=dtype, dim=dim)
    assert back.shape == (23, dim)
    assert back.dtype == jnp.float32
    same_bits(back, plainly)
    scale = None if found.scale is None else np.asarray(found.scale)
    if scale is not None:
        np.testing.assert_allclose(scale, np.abs(x).max(1) / LARGEST[dtype], rtol=1e-6)
    assert (np.abs(x - np.asarray(back, np.float64)) <= lost_at_most(x, scale, dtype) * (1 + 1e-5)).all()
    for left in (found.residual, again.residual):  # decoded in exact products, which fuse without a trace
        same_bits(left, values + residual - np.asarray(back))


@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_are_the_nearest(dtype):
    values, _ = rows(16, seed=5)
    found, _ = both("quantise", values, None, dtype=dtype)
    assert found.residual is None
    if dtype == "bfloat16":
        same_bits(found.codes, values.astype(ml_dtypes.bfloat16))
        return
    ratio = values.astype(np.float64) / np.asarray(found.scale, np.float64)[:, None]
    codes = np.asarray(found.codes)
    if dtype == "int4":
        halves = np.stack([codes & 15, codes >> 4], 2).reshape(23, 16).astype(np.int8)
        codes = np.where(halves > 7, halves - 16, halves)
    expected = np.rint(ratio) if dtype.startswith("int") else ratio.astype(np.float32).astype(codes.dtype)
    off = codes.astype(np.float64) != expected.astype(np.float64)
    assert off.mean() < 0.01  # a quotient on the very border may fall to either side


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_infinities_and_the_smallest_numbers(dtype):
    values = np.ones((6, 7), np.float32)
    values[0] = 0
    values[1, 3], values[2, 0], values[3] = np.inf, np.nan, 1e-42
    values[4] = 3e38
    found, again = both("quantise", values, np.zeros_like(values), dtype=dtype)
    jax.tree.map(same_bits, found, again)
    back = np.asarray(KERNEL["dequantise"](found.codes, found.scale, dtype=dtype, dim=7, interpret=True))
    assert (back[0] == 0).all()
    if dtype == "bfloat16":
        assert np.isposinf(back[1, 3])
        assert np.isnan(back[2, 0])
    else:
        assert np.isnan(back[1]).all()
        assert np.isnan(back[2]).all()
    assert (np.abs(back[3]) <= 1e-38).all()  # what is below float32's normal numbers may go, or stay in the residual
    np.testing.assert_allclose(back[4], 3e38, rtol=0.01)
    np.testing.assert_allclose(back[5], 1, rtol=0.01)
    assert np.isfinite(np.asarray(found.residual)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_error_feedback_loses_nothing_over_time(dtype):
    """What arrived, and what is left, is what was sent: whatever the code."""
    rng = np.random.default_rng(7)
    residual, arrived, sent = np.zeros((5, 8), np.float32), np.zeros((5, 8)), np.zeros((5, 8))
    for _ in range(20):
        values = rng.standard_normal((5, 8)).astype(np.float32)
        found = REFERENCE["quantise"](values, residual, dtype=dtype)
        arrived += np.asarray(REFERENCE["dequantise"](found.codes, found.scale, dtype=dtype, dim=8))
        sent, residual = sent + values, np.asarray(found.residual)
    np.testing.assert_allclose(arrived + residual, sent, atol=1e-5)


def test_no_rows():
    found, _ = both("quantise", np.zeros((0, 5), np.float32), None, dtype="int4")
    assert found.codes.shape == (0, 3)
    assert KERNEL["dequantise"](found.codes, found.scale, dtype="int4", dim=5, interpret=True).shape == (0, 5)


def test_errors_name_the_argument():
    values = jnp.ones((3, 5))
    with pytest.raises(ValueError, match="dtype must be one of int8, int4"):
        quantise(values, dtype="int2")
    with pytest.raises(ValueError, match="residual must have shape"):
        quantise(values, values[:2], dtype="int8")
    with pytest.raises(ValueError, match="codes must have shape"):
        dequantise(jnp.zeros((3, 5), jnp.uint8), jnp.ones(3), dtype="int4", dim=5)
    with pytest.raises(ValueError, match="scale goes with every dtype but bfloat16"):
        dequantise(jnp.zeros((3, 5), jnp.int8), None, dtype="int8", dim=5)
