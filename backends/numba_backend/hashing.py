"""Hash words of backends.placement, compiled. Every operation is cut back to 32 bits, which numba would widen.

Sizes: U unique keys.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends import placement
from recis_core.backends.numba_backend.compiled import compiled, inlined

SLICE_SALT = np.uint32(placement.SLICE_SALT)
A_SALT = np.uint32(placement.A_SALT)
B_SALT = np.uint32(placement.B_SALT)
TABLE_MULTIPLIER = np.uint32(placement.TABLE_MULTIPLIER)
MIX_1 = np.uint32(placement.MIX_1)
MIX_2 = np.uint32(placement.MIX_2)
SLICE_MASK = np.uint32((1 << placement.SLICE_BITS) - 1)


@inlined
def mix(h):  # type: ignore[no-untyped-def]
    h = np.uint32(h ^ (h >> np.uint32(16)))
    h = np.uint32(h * MIX_1)
    h = np.uint32(h ^ (h >> np.uint32(13)))
    h = np.uint32(h * MIX_2)
    return np.uint32(h ^ (h >> np.uint32(16)))


@inlined
def hash_word(hi, lo, uid, salt):  # type: ignore[no-untyped-def]
    h = mix(np.uint32(lo ^ salt))
    h = mix(np.uint32(h + hi))
    return mix(np.uint32(h + np.uint32(uid * TABLE_MULTIPLIER)))


@compiled
def bucket_words(ids, tables, uids, beg, end, a, b):  # type: ignore[no-untyped-def]
    """Fill a and b, uint32 [U], for keys beg to end; a's and b's low bits name the two candidate buckets."""
    for u in range(beg, end):
        lo, hi = np.uint32(ids[u]), np.uint32(ids[u] >> 32)
        uid = uids[tables[u]]
        a[u] = hash_word(hi, lo, uid, A_SALT)
        b[u] = hash_word(hi, lo, uid, B_SALT)


@inlined
def tag_of(a):  # type: ignore[no-untyped-def]
    """The byte that stands for a key in its bucket's tags, 1 to 255; 0 marks a free way."""
    return max(np.uint8(a >> np.uint32(24)), np.uint8(1))


@compiled
def fill_slices(ids, tables, uids, slices):  # type: ignore[no-untyped-def]
    for u in range(len(ids)):
        word = hash_word(np.uint32(ids[u] >> 32), np.uint32(ids[u]), uids[tables[u]], SLICE_SALT)
        slices[u] = np.int32(word & SLICE_MASK)
