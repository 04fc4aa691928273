"""The noise of bfloat16 rounding, bit for bit; and its generator against published vectors."""

import jax.numpy as jnp
import numpy as np
import pytest

from recis_core.pallas_kernels.rounding import noise, threefry2x32
from tests.kernels import reference

# Random123's known answers for threefry2x32, 20 rounds: key, counter, result.
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "counter", "answer"), KNOWN)
def test_threefry_known_answers(key, counter, answer):
    words = [jnp.full(1, word, jnp.uint32) for word in (*key, *counter)]
    assert tuple(int(word[0]) for word in threefry2x32(*words)) == answer
    assert reference.threefry(*key, *counter) == answer


@pytest.mark.parametrize("dim", [1, 7, 8])
def test_noise_bits(dim):
    seed, ids = 0xFEDCBA9876543210, np.array([0, -1, 1 << 62, -(2**63)], np.int64)
    bits, uids, t = ids.view(np.uint64), np.array([1, 2**32 - 1, 3, 4], np.uint32), np.array([1, 2, 3, 4], np.uint32)
    halves = (bits >> np.uint64(32)).astype(np.uint32), bits.astype(np.uint32)
    parts = tuple(jnp.uint32(part) for part in (seed >> 32, seed & 0xFFFFFFFF))
    got = noise(parts, *map(jnp.asarray, (*halves, uids, t)), jnp.arange(dim, dtype=jnp.uint32))
    rows = [reference.noise(seed, int(u), i, dim, int(s)) for u, i, s in zip(uids, ids, t, strict=True)]
    np.testing.assert_array_equal(np.asarray(got), np.stack(rows))
