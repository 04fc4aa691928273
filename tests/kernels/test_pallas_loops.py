"""The Pallas forms of the backend's loops against their XLA forms, padding included. Needs torch, as backends."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="backends/ needs torch")

from recis_core.backends.jax_backend.loops import Noise, Touched
from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS
from recis_core.backends.pallas_backend.pallas_loops import pallas_loops
from recis_core.backends.spec import RULES, UpdateRule
from recis_core.pallas_kernels.index import Keys
from tests.kernels.reference import close

N, B, P, R, D = 96, 16, 32, 50, 7
IDS, BAGS, KEYS = 80, 12, 25  # the real ones; the rest is padding
SLOTS = {"sgd": (("v", D),), "adam": (("m", D), ("v", D)), "adagrad": (("s", D),), "rowwise_adagrad": (("s", 1),)}


def padded_offsets(rng, segments, real, size):
    cuts = np.sort(rng.integers(0, size + 1, real - 1))
    return jnp.asarray(np.concatenate([[0], cuts, np.full(segments - real + 1, size)]).astype(np.int32))


def both(name, *args, **options):
    loops = [getattr(loop, name) for loop in (pallas_loops(True), XLA_LOOPS)]
    return [jax.jit(partial(loop, **options))(*args) for loop in loops]


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn", "none", "tile"])
def test_gather_pool(combiner):
    rng = np.random.default_rng(1)
    table, weights = jnp.asarray(rng.standard_normal((R, D)), jnp.float32), jnp.asarray(rng.random(N), jnp.float32)
    rows = jnp.asarray(rng.integers(-1, R, N), jnp.int32)
    offsets = padded_offsets(rng, B, BAGS, IDS)
    got, expected = both("gather_pool", table, rows, offsets, weights, combiner=combiner, tile_len=3)
    real = IDS if combiner == "none" else BAGS
    close(got[:real], expected[:real], 1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_segment_sum(scaled):
    rng = np.random.default_rng(2)
    vectors, scale = jnp.asarray(rng.standard_normal((B, D)), jnp.float32), jnp.asarray(rng.random(N), jnp.float32)
    source = jnp.asarray(rng.integers(0, B, N), jnp.int32)
    offsets = padded_offsets(rng, P, KEYS, IDS)
    args = (vectors, source, scale if scaled else None, offsets, jnp.int32(KEYS))
    got, expected = both("segment_sum", *args)
    close(got[:KEYS], expected[:KEYS], 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", RULES)
def test_update(kind, dtype):
    rng = np.random.default_rng(3)
    weights = jnp.asarray(rng.standard_normal((R, D)), dtype)
    slots = tuple(jnp.asarray(rng.random((R, width)), jnp.float32) for _, width in SLOTS[kind])
    rows = rng.permutation(R)[:P].astype(np.int32)
    rows[3] = -1
    words = [jnp.asarray(rng.integers(0, 2**32, P, dtype=np.uint32)) for _ in range(3)]
    t = jnp.asarray(rng.integers(1, 9, P), jnp.int32)
    noise = Noise(jnp.array([3, 5], jnp.uint32), Keys(*words), t) if dtype == "bfloat16" else None
    ordinals, values = (
        jnp.asarray(rng.integers(0, 2, P), jnp.int32),
        jnp.asarray(rng.standard_normal((P, D)), jnp.float32),
    )
    touched = Touched(jnp.asarray(rows), ordinals, values.at[KEYS:].set(jnp.nan), jnp.int32(KEYS), noise)
    hyper = jnp.asarray(rng.uniform(0.01, 0.9, (2, len(RULES[kind]))), jnp.float32)
    rule = UpdateRule(kind, tuple(name for name, _ in SLOTS[kind]))
    loops = (pallas_loops(True), XLA_LOOPS)
    run = [jax.jit(lambda *a, f=loop.update: f(rule, *a)) for loop in loops]
    (got, got_slots), (expected, expected_slots) = (f(weights, slots, touched, hyper, jnp.float32(0.5)) for f in run)
    assert got.dtype == expected.dtype
    # Equal noise: a bfloat16 differs by its last bit only where the two float32 straddle a cut.
    off = np.asarray(got != expected).mean() if dtype == "bfloat16" else 0.0
    assert off < 0.01
    close(got, expected, 1e-5 if dtype == "float32" else 1.6e-2)
    for one, other in zip(got_slots, expected_slots, strict=True):
        close(one, other, 1e-5)
