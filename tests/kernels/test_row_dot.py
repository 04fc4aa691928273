"""row_dot in interpret mode against float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recis_core.pallas_kernels import row_dot
from recis_core.pallas_kernels.operands import FLOATS, SCALED, TABLES
from tests.kernels.bags import DIMS, table
from tests.kernels.reference import close, same_bits

jitted = jax.jit(row_dot, static_argnames="interpret")


def products(t, rows, grad, sources):
    picked = t.meaning[np.maximum(rows, 0)] * grad.meaning[np.maximum(sources, 0)]
    return np.where((rows >= 0) & (sources >= 0), picked.sum(1), 0.0)


@pytest.mark.parametrize("dim", DIMS)
def test_every_dim(dim):
    rng = np.random.default_rng(dim)
    t, grad = table(rng, 50, dim), table(rng, 20, dim)
    rows, sources = (rng.integers(-1, n, 123).astype(np.int32) for n in (50, 20))
    call = (t.stored, jnp.asarray(rows), grad.stored, jnp.asarray(sources))
    got = jitted(*call, interpret=True)
    close(got, products(t, rows, grad, sources), 1e-5)
    same_bits(jitted(*call, interpret=True), got)


@pytest.mark.parametrize("grad_dtype", FLOATS)
@pytest.mark.parametrize("dtype", TABLES)
def test_every_dtype(dtype, grad_dtype):
    rng = np.random.default_rng(1)
    t, grad = table(rng, 50, 7, dtype, scaled=dtype in SCALED), table(rng, 20, 7, grad_dtype)
    rows, sources = (rng.integers(-1, n, 33).astype(np.int32) for n in (50, 20))
    got = jitted(t.stored, jnp.asarray(rows), grad.stored, jnp.asarray(sources), t.scale, interpret=True)
    close(got, products(t, rows, grad, sources), 1e-5)


def test_same_id_500_times_in_a_one_row_table_and_odd_sizes():
    rng = np.random.default_rng(4)
    one, t, grad = table(rng, 1, 7), table(rng, 123, 123), table(rng, 5, 123)
    nought = jnp.zeros(500, jnp.int32)
    got = np.asarray(jitted(one.stored, nought, one.stored, nought, interpret=True))
    close(got, np.full(500, (one.meaning**2).sum()), 1e-5)
    rows, sources = (rng.integers(0, n, 123).astype(np.int32) for n in (123, 5))
    got = jitted(t.stored, jnp.asarray(rows), grad.stored, jnp.asarray(sources), interpret=True)
    close(got, products(t, rows, grad, sources), 1e-5)


def test_no_ids():
    t = table(np.random.default_rng(2), 50, 7).stored
    nobody = jnp.zeros(0, jnp.int32)
    assert jitted(t, nobody, t, nobody, interpret=True).shape == (0,)


def test_errors_name_the_argument():
    t = table(np.random.default_rng(3), 50, 7).stored
    rows = jnp.zeros(2, jnp.int32)
    with pytest.raises(ValueError, match="grad must have shape"):
        row_dot(t, rows, t[:, :3], rows, interpret=True)
