"""select_rows in interpret mode and its jnp reference against float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recis_core.pallas_kernels import select_rows
from recis_core.pallas_kernels.reference.select_rows import select_rows as reference
from tests.kernels.bags import DIMS
from tests.kernels.reference import same_bits

kernel = jax.jit(select_rows, static_argnames=("k", "interpret"))
FORMS = {
    "kernel": lambda *a, k: kernel(*a, k=k, interpret=True),
    "reference": jax.jit(reference, static_argnames=("k",)),
}
forms = pytest.mark.parametrize("form", FORMS)


def check(found, x, k, count=None):
    real = len(x) if count is None else count
    norms = (x.astype(np.float64) ** 2).sum(1)[:real]
    best = sorted(np.argsort(-norms, kind="stable")[:k].tolist())
    assert found.indices.dtype == jnp.int32
    assert found.indices.tolist() == best + [len(x)] * (k - len(best))
    expected = np.zeros((k, x.shape[1]), np.float32)
    expected[: len(best)] = x[best]
    same_bits(found.rows, expected)
    left = x.copy()
    left[best] = 0
    same_bits(found.residual, left)


@forms
@pytest.mark.parametrize("dim", DIMS)
def test_the_largest_go_and_the_rest_stays(form, dim):
    rng = np.random.default_rng(dim)
    values, residual = (rng.standard_normal((31, dim)).astype(np.float32) for _ in range(2))
    found = FORMS[form](values, residual, k=7)
    check(found, values + residual, 7)
    jax.tree.map(same_bits, FORMS[form](values, residual, k=7), found)
    check(FORMS[form](values, None, k=31), values, 31)


@forms
def test_padding_is_never_selected(form):
    values = np.ones((9, 4), np.float32)
    values[6:] = 100
    check(FORMS[form](values, None, jnp.int32(6), k=4), values, 4, count=6)
    check(FORMS[form](values, None, jnp.int32(6), k=8), values, 8, count=6)
    check(FORMS[form](values, None, jnp.int32(0), k=2), values, 2, count=0)


@forms
def test_ties_go_to_the_lower_index_and_zeros_count(form):
    values = np.zeros((8, 2), np.float32)
    values[[2, 5, 7]] = 3
    assert FORMS[form](values, None, k=2).indices.tolist() == [2, 5]
    assert FORMS[form](values, None, k=5).indices.tolist() == [0, 1, 2, 5, 7]


@forms
def test_what_is_not_finite_is_sent(form):
    values = np.ones((8, 2), np.float32)
    values[3, 0], values[6, 1] = np.nan, -np.inf
    found = FORMS[form](values, None, k=2)
    assert found.indices.tolist() == [3, 6]
    assert np.isfinite(found.residual).all()


@forms
def test_nothing_to_select(form):
    values = np.ones((3, 2), np.float32)
    check(FORMS[form](values, values, k=0), 2 * values, 0)
    assert FORMS[form](values[:0], None, k=0).residual.shape == (0, 2)


def test_errors_name_the_argument():
    values = jnp.ones((3, 2))
    with pytest.raises(ValueError, match=r"k must lie in 0\.\.3, the number of rows; got 4"):
        select_rows(values, k=4)
    with pytest.raises(TypeError, match="values must be float32"):
        select_rows(values.astype(jnp.bfloat16), k=1)
    with pytest.raises(ValueError, match=r"count must have shape \(\)"):
        select_rows(values, None, jnp.ones(1, jnp.int32), k=1)
