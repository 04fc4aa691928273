"""dedup in interpret mode and its jnp reference against Python's sorted sets."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recis_core.pallas_kernels import KeyConfig, dedup, segment_sum
from recis_core.pallas_kernels.reference.dedup import dedup as reference
from tests.kernels.indices import keys_of, pairs_of, random_pairs

FORMS = {
    "kernel": jax.jit(partial(dedup, interpret=True), static_argnames=("size", "config")),
    "reference": jax.jit(reference, static_argnames=("size",)),
}
forms = pytest.mark.parametrize("form", FORMS)
SMALL = KeyConfig(keys=16, num_warps=1)  # so that runs of a key cross blocks


def check(got, pairs, valid, size):
    real = [pair for pair, ok in zip(pairs, valid, strict=True) if ok]
    unique = sorted(set(real))
    kept = unique[:size]
    number = {pair: u for u, pair in enumerate(kept)}
    assert int(got.count) == len(unique)
    assert pairs_of(got.keys) == kept + [(0, 0)] * (size - len(kept))
    assert np.asarray(got.counts).tolist() == [real.count(pair) for pair in kept] + [0] * (size - len(kept))
    inverse = [number.get(pair, -1) if ok else -1 for pair, ok in zip(pairs, valid, strict=True)]
    assert np.asarray(got.inverse).tolist() == inverse
    order, offsets = np.asarray(got.order), np.asarray(got.offsets)
    assert sorted(order.tolist()) == list(range(len(pairs)))
    for u in range(len(kept)):
        assert order[offsets[u] : offsets[u + 1]].tolist() == [i for i, v in enumerate(inverse) if v == u]
    assert offsets.shape == (size + 1,)
    assert (offsets[len(kept) :] == sum(v >= 0 for v in inverse)).all()


def cases():
    rng = np.random.default_rng(0)
    some = random_pairs(rng, 20)
    edge = [(uid, id_) for uid in (0, 2**32 - 1) for id_ in (-(2**63), -1, 0, 1, 2**32, 2**52 + 1, 2**63 - 1)]
    repeated = [some[i] for i in rng.integers(0, 20, 123)]
    return {
        "repeats": (repeated, rng.random(123) < 0.8),
        "same_id_500_times": ([(1, -5)] * 500, np.ones(500, bool)),
        "edges_of_the_key": ([edge[i] for i in rng.integers(0, len(edge), 60)], rng.random(60) < 0.9),
        "none_valid": (repeated[:7], np.zeros(7, bool)),
        "all_different": (some[::-1], np.ones(len(some), bool)),
        "one": (some[:1], np.ones(1, bool)),
        "no_keys_at_all": ([], np.zeros(0, bool)),
    }


CASES = cases()


@forms
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [None, 5])
def test_against_sorted_sets(form, case, size):
    pairs, valid = CASES[case]
    options = {"config": SMALL} if form == "kernel" and size is None else {}
    got = FORMS[form](keys_of(pairs), jnp.asarray(valid), size=size, **options)
    check(got, pairs, valid, len(pairs) if size is None else size)


def test_order_and_offsets_are_what_segment_sum_takes():
    pairs, valid = CASES["repeats"]
    unique = FORMS["kernel"](keys_of(pairs), jnp.asarray(valid), size=30)
    ones = jnp.ones((len(pairs), 1))
    summed = segment_sum(ones, unique.order, unique.offsets, interpret=True)
    assert summed[:, 0].astype(int).tolist() == unique.counts.tolist()


def test_errors_name_the_argument():
    keys = keys_of([(0, 1)])
    with pytest.raises(TypeError, match="valid must be bool"):
        dedup(keys, jnp.ones(1))
    with pytest.raises(ValueError, match="size must not be negative; got -1"):
        dedup(keys, jnp.ones(1, bool), size=-1)
