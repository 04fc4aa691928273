"""Bags and their gradients beside a float64 reference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recis_core.jax as rj
from tests.reference import pooling

N, D = 10, 3
OFFSETS = np.array([0, 0, 4, 7, 7])  # empty bags first and last; three rows of padding


@pytest.mark.parametrize(
    ("combiner", "tile_len", "weighted"),
    [
        ("mean", None, True),
        *(pytest.param(*case, marks=pytest.mark.full) for case in (
            ("sum", None, False), ("sum", None, True), ("mean", None, False), ("sqrtn", None, True), ("tile", 2, True),
            ("none", None, True),
        )),
    ],
)  # fmt: skip
def test_values_and_gradients(combiner, tile_len, weighted):
    random = np.random.default_rng(0)
    rows = random.normal(size=(N, D)).astype(np.float32)
    weights = random.uniform(0.5, 2, N).astype(np.float32) if weighted else None
    out, pull = jax.vjp(
        lambda rows, weights: rj.pool(rows, OFFSETS, weights, combiner=combiner, tile_len=tile_len), rows, weights
    )
    grad = random.normal(size=out.shape).astype(np.float32)
    to_rows, to_weights = pull(jnp.asarray(grad))
    real = OFFSETS[-1]
    cut = slice(None, real) if combiner == "none" else slice(None)
    case = rows[:real], np.arange(real), OFFSETS, None if weights is None else weights[:real], combiner, tile_len
    np.testing.assert_allclose(out[cut], pooling.pool(*case), rtol=1e-5, atol=1e-6)
    wanted = pooling.pool_grad(grad[cut], *case)
    np.testing.assert_allclose(to_rows[:real], wanted[0], rtol=1e-4, atol=1e-5)
    assert not np.asarray(to_rows[real:]).any()
    if weighted:
        np.testing.assert_allclose(to_weights[:real], wanted[1], rtol=1e-4, atol=1e-5)
        assert not np.asarray(to_weights[real:]).any()


def test_offsets_of_segments():
    segments = np.array([1, 1, 1, 1, 2, 2, 2, 4, 4, 4])
    np.testing.assert_array_equal(rj.offsets_of(segments, 4), OFFSETS)


def test_bad_arguments_are_named():
    rows, offsets = jnp.ones((N, D)), jnp.asarray(OFFSETS)
    for given, told in (
        ({"combiner": "max"}, "combiner must be one of"),
        ({"combiner": "tile"}, "tile_len goes with"),
        ({"weights": jnp.ones(3)}, r"weights must be float32 \[10\]"),
    ):
        with pytest.raises(ValueError, match=told):
            rj.pool(rows, offsets, **given)
    with pytest.raises(ValueError, match=r"rows must be float32 \[N, D\]"):
        rj.pool(rows[0], offsets)
