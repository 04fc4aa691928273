"""pack_ids and unpack_ids in interpret mode and their jnp references against Python's unbounded integers."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recis_core.pallas_kernels import pack_ids, unpack_ids
from recis_core.pallas_kernels.reference import pack_ids as plain
from tests.kernels.reference import same_bits

KERNEL = (
    jax.jit(pack_ids, static_argnames=("interpret",)),
    jax.jit(unpack_ids, static_argnames=("size", "interpret")),
)
FORMS = {
    "kernel": (lambda *a: KERNEL[0](*a, interpret=True), lambda p, size: KERNEL[1](p, size=size, interpret=True)),
    "reference": (jax.jit(plain.pack_ids), jax.jit(plain.unpack_ids, static_argnames=("size",))),
}
forms = pytest.mark.parametrize("form", FORMS)
MASK = (1 << 64) - 1


def halves(ids):
    bits = np.asarray(ids, np.int64).view(np.uint64)
    return jnp.asarray((bits >> np.uint64(32)).astype(np.uint32)), jnp.asarray(bits.astype(np.uint32))


def joined(hi, lo):
    return (np.asarray(hi).astype(np.uint64) << np.uint64(32) | np.asarray(lo)).view(np.int64)


def packed_by_hand(ids):
    """(words, widths), one bit string a lane."""
    words, widths = [], []
    for begin in range(0, len(ids), 128):
        frame = [int(x) for x in ids[begin : begin + 128]]
        frame += [frame[-1]] * (128 - len(frame))
        deltas = [0] + [(y - x) & MASK for x, y in pairwise(frame)]
        width = max(delta.bit_length() for delta in deltas)
        lanes = [sum(delta << (k * width) for k, delta in enumerate(deltas[lane::4])) for lane in range(4)]
        words += [lanes[lane] >> (32 * w) & 0xFFFFFFFF for w in range(width) for lane in range(4)]
        widths.append(width)
    return words, widths


def cases():
    rng = np.random.default_rng(0)
    return {
        "sorted": np.sort(rng.integers(0, 10_000, 300)),
        "ids_above_2**52": np.sort(rng.integers(2**52, 2**53, 200)),
        "negative_ids": np.sort(rng.integers(-(2**63), 2**63 - 1, 130)),
        "any_order": rng.integers(-(2**63), 2**63 - 1, 257),
        "the_ends": np.array([-(2**63), 2**63 - 1, 0, -1, 1] * 30),
        "same_id_500_times": np.full(500, -7),
        "a_full_frame": np.arange(128) * 3,
        "one": np.array([-(2**40)]),
        "widths_1_to_33": np.concatenate([np.arange(128) * (1 << w) for w in range(33)]),
    }


CASES = cases()


@forms
@pytest.mark.parametrize("case", CASES)
def test_there_and_back(form, case):
    ids = CASES[case]
    pack, unpack = FORMS[form]
    packed = pack(*halves(ids), jnp.int32(len(ids)))
    words, widths = packed_by_hand(ids)
    assert packed.widths.tolist() == widths
    assert int(packed.length) == len(words)
    assert packed.words.tolist() == words + [0] * (len(packed.words) - len(words))
    assert joined(packed.base_hi, packed.base_lo).tolist() == ids[::128].tolist()
    assert joined(*unpack(packed, size=len(ids))).tolist() == ids.tolist()
    jax.tree.map(same_bits, pack(*halves(ids), jnp.int32(len(ids))), packed)


@forms
@pytest.mark.parametrize("count", [0, 1, 128, 200])
def test_padding_takes_no_bits_and_reads_zero(form, count):
    ids = np.sort(np.random.default_rng(1).integers(0, 1000, 300))
    pack, unpack = FORMS[form]
    padded = ids.copy()
    padded[count:] = -1
    packed = pack(*halves(padded), jnp.int32(count))
    assert int(packed.length) == len(packed_by_hand(ids[:count])[0])
    assert joined(*unpack(packed, size=300)).tolist() == ids[:count].tolist() + [0] * (300 - count)


@forms
def test_no_ids_at_all(form):
    pack, unpack = FORMS[form]
    if form == "kernel":
        packed = pack(*halves([]), jnp.int32(0))
        assert int(packed.length) == 0
        assert unpack(packed, size=0)[0].shape == (0,)


def test_sorted_ids_take_few_bits():
    ids = np.sort(np.random.default_rng(2).integers(0, 1 << 40, 1 << 14))
    packed = FORMS["reference"][0](*halves(ids), jnp.int32(len(ids)))
    assert 4 * int(packed.length) + 12 * len(packed.widths) < 0.52 * 8 * len(ids)


def test_errors_name_the_argument():
    with pytest.raises(TypeError, match="hi must be uint32"):
        pack_ids(jnp.ones(3), jnp.ones(3, jnp.uint32), jnp.int32(3))
    with pytest.raises(ValueError, match=r"count must have shape \(\)"):
        pack_ids(*halves([1]), jnp.ones(1, jnp.int32))
    packed = FORMS["reference"][0](*halves(range(200)), jnp.int32(200))
    with pytest.raises(ValueError, match="size must be that of 2 frames"):
        unpack_ids(packed, size=300)
