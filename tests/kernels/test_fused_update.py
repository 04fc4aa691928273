"""fused_update in interpret mode against float64 numpy, row by row."""

import os
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from recis_core.pallas_kernels import Rounding, RowConfig, Segments, fused_update, segment_sum
from tests.kernels import reference
from tests.kernels.bags import DIMS, offsets_of
from tests.kernels.reference import close, same_bits

R, U, TABLES = 60, 23, 3
jitted = jax.jit(fused_update, static_argnames=("kind", "config", "interpret"))
# The emitters that tests/conftest.py turns off contract products and sums alike in every tile; the plain ones do not.
EMITTERS = {"xla_cpu_use_fusion_emitters": True} if "fusion_emitters" in os.environ.get("XLA_FLAGS", "") else None
as_users = jax.jit(fused_update, static_argnames=("kind", "config", "interpret"), compiler_options=EMITTERS)
SEED = 0x0123456789ABCDEF
FORMS = {"sgd": 0, "momentum": 1, "adam": 2, "adagrad": 1, "rowwise_adagrad": 1}


class Step:
    """One update: several logical tables with hyper lines of their own, the last 4 rows padding."""

    def __init__(self, form, dim, dtype="float32", seed=0):
        rng = np.random.default_rng(seed + dim)
        self.kind = "sgd" if form == "momentum" else form
        self.weights = rng.standard_normal((R, dim)).astype(dtype)
        width = 1 if form == "rowwise_adagrad" else dim
        self.slots = tuple(rng.random((R, width)).astype(np.float32) for _ in range(FORMS[form]))
        self.rows = rng.permutation(R)[:U].astype(np.int32)
        self.rows[-4:] = -1
        self.ordinals = rng.integers(0, TABLES, U).astype(np.int32)
        self.values = rng.standard_normal((U, dim)).astype(np.float32)
        self.hyper = rng.uniform(0.01, 0.9, (TABLES, 7 if form == "adam" else 3)).astype(np.float32)
        self.factor = np.array([0.37], np.float32)
        self.ids = rng.integers(-(2**63), 2**63 - 1, U)
        self.uids, self.t = np.array([5, 1 << 31, 77], np.uint32), np.array([1, 2, 40], np.uint32)

    def rounding(self):
        if self.weights.dtype == np.float32:
            return None
        bits = self.ids.view(np.uint64)
        halves = [(bits >> np.uint64(32)).astype(np.uint32), bits.astype(np.uint32)]
        seed = np.array([SEED >> 32, SEED & 0xFFFFFFFF], np.uint32)
        return Rounding(*map(jnp.asarray, (seed, *halves, self.uids[self.ordinals], self.t[self.ordinals])))

    def run(self, segments=None, config=None, jitted=jitted):
        arrays = (self.weights, self.slots, self.rows, self.ordinals, self.values, self.hyper, self.factor)
        options = {"kind": self.kind, "config": config, "interpret": True}
        return jitted(*jax.tree.map(jnp.asarray, arrays), self.rounding(), segments, **options)

    def expected(self):
        """float64 weights and slots after the step."""
        weights, slots = self.weights.astype(np.float64), [s.astype(np.float64) for s in self.slots]
        for u in np.flatnonzero(self.rows >= 0):
            r, line = self.rows[u], self.hyper[self.ordinals[u]].astype(np.float64)
            g = self.values[u].astype(np.float64) * self.factor[0]
            weights[r], new = reference.update(self.kind, weights[r], g, [s[r] for s in slots], line)
            for slot, value in zip(slots, new, strict=True):
                slot[r] = value
        return weights, slots


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("form", FORMS)
def test_every_rule_and_dim(form, dim):
    step = Step(form, dim)
    weights, slots = step.run()
    expected, expected_slots = step.expected()
    close(weights, expected, 1e-5)
    for got, want in zip(slots, expected_slots, strict=True):
        close(got, want, 1e-5)
    untouched = np.setdiff1d(np.arange(R), step.rows)
    same_bits(np.asarray(weights)[untouched], step.weights[untouched])
    jax.tree.map(same_bits, step.run(), (weights, slots))


@pytest.mark.parametrize("dim", DIMS)
def test_bfloat16_at_every_dim(dim):
    step = Step("adam", dim, ml_dtypes.bfloat16)
    weights, slots = step.run()
    expected, expected_slots = step.expected()
    close(weights, expected, 1.6e-2)
    for got, want in zip(slots, expected_slots, strict=True):
        close(got, want, 1e-5)
    jax.tree.map(same_bits, step.run(), (weights, slots))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_in_half_precision(dtype):
    step = Step("adagrad", 7)
    step.values = step.values.astype(dtype)
    weights, _ = step.run()
    close(weights, step.expected()[0], 1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_every_config_gives_the_same(form):
    """To the bit but where a sum over columns follows from the tile."""
    step, same = Step(form, 16), partial(close, rtol=1e-6) if form == "rowwise_adagrad" else same_bits
    first = step.run(jitted=as_users)
    for config in (RowConfig(1, 1), RowConfig(8, 8)):
        jax.tree.map(same, step.run(config=config, jitted=as_users), first)


def test_one_row_table():
    weights, rows, grad = jnp.full((1, 7), 2.0), jnp.array([-1, 0, -1], jnp.int32), jnp.ones((3, 7))
    hyper = jnp.array([[0.5, 0.0, 0.0]])
    got, _ = jitted(weights, (), rows, 0 * rows, grad, hyper, jnp.ones(1), kind="sgd", interpret=True)
    assert got.tolist() == [[1.5] * 7]


@pytest.mark.parametrize(("form", "dim"), [("adam", 64), ("sgd", 1), ("sgd", 100), ("rowwise_adagrad", 7)])
@pytest.mark.parametrize("hot", [0, 1500])
def test_summing_in_the_same_pass(form, dim, hot):
    step = Step(form, dim)
    rng = np.random.default_rng(9)
    lengths = rng.integers(0, 9, U)
    lengths[5] += hot
    count = lengths.sum() + 11  # padding behind
    sources, weights = rng.integers(-1, 40, count).astype(np.int32), 2.0 ** rng.integers(-2, 2, count)
    segments = Segments(jnp.asarray(sources), jnp.asarray(offsets_of(lengths)), jnp.asarray(weights, jnp.float32))
    bags = jnp.asarray(rng.standard_normal((40, dim)), jnp.float32)
    if form == "sgd":  # w - g, so that a sum's last bit shows; weights by powers of two, for XLA may fuse w·x + y
        step.hyper[:], step.factor[0] = (1, 0, 0), 1
    step.values = np.asarray(segment_sum(bags, *segments, interpret=True))
    first = step.run()
    close(first[0], step.expected()[0], 1e-5)
    step.values = bags
    same = same_bits if form == "sgd" else partial(close, rtol=1e-6)
    jax.tree.map(same, step.run(segments), first)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_rounds_by_the_noise_of_each_key(form):
    step = Step(form, 7, ml_dtypes.bfloat16)
    weights, _ = step.run()
    expected, _ = step.expected()
    assert weights.dtype == jnp.bfloat16
    close(weights, expected, 1.6e-2)
    for u in np.flatnonzero(step.rows >= 0):
        t = int(step.t[step.ordinals[u]])
        noise = reference.noise(SEED, int(step.uids[step.ordinals[u]]), step.ids[u], 7, t)
        exact = expected[step.rows[u]].astype(np.float32)
        # The kernel's float32 may differ from ours in its last bits: it lies between the cuts of both ends.
        low, high = (cut(exact + s * np.float32(2e-6), noise) for s in (-1, 1))
        got = np.asarray(weights, np.float32)[step.rows[u]]
        assert ((low <= got) & (got <= high)).all()
        assert (low == high).mean() > 0.5


def cut(exact, noise):
    return ((exact.view(np.uint32) + noise) & np.uint32(0xFFFF0000)).view(np.float32)


def test_rounding_is_unbiased_and_leaves_non_finite_values_alone():
    step = Step("sgd", 100, ml_dtypes.bfloat16)
    step.weights[:] = 1.0
    step.hyper[:] = 0.0
    step.hyper[:, 0], step.factor[0], step.values[:] = 1.0, 1.0, -(2.0**-9)  # a quarter of 1.0's last bfloat16 bit
    step.values[0, :2] = np.inf, np.nan
    weights = np.asarray(step.run()[0], np.float32)[step.rows[:-4]]
    assert np.isneginf(weights[0, 0])
    assert np.isnan(weights[0, 1])
    share = (weights[1:] > 1.0).mean()
    assert set(np.unique(weights[1:])) == {1.0, 1.0 + 2.0**-7}
    assert abs(share - 0.25) < 0.04  # 1,800 draws: 4 standard deviations


def test_non_finite_gradient_reaches_its_own_row_only():
    step = Step("rowwise_adagrad", 7)
    step.values[2, 3] = np.nan
    weights = np.asarray(step.run()[0])
    assert not np.isfinite(weights[step.rows[2]]).any()
    assert np.isfinite(np.delete(weights, step.rows[2], 0)).all()


def test_nothing_to_update():
    step = Step("adam", 7)
    step.rows[:] = -1
    weights, slots = step.run()
    same_bits(weights, step.weights)
    for got, before in zip(slots, step.slots, strict=True):
        same_bits(got, before)


def test_errors_name_the_argument():
    step = Step("adam", 7)
    step.kind = "adagrad"
    with pytest.raises(ValueError, match="adagrad takes 1 slots; got 2"):
        step.run()
    step.kind = "lion"
    with pytest.raises(ValueError, match="kind must be one of"):
        step.run()
    step = Step("adam", 7)
    step.hyper = step.hyper[:, :3]
    with pytest.raises(ValueError, match="hyper must have shape"):
        step.run()
    step = Step("adam", 7, ml_dtypes.bfloat16)
    step.rounding = lambda: None
    with pytest.raises(ValueError, match="rounding goes with bfloat16"):
        step.run()
