"""MurmurHash64A in plain torch, little-endian. Sizes: N texts or pairs."""

from __future__ import annotations

from torch import Tensor

from recis_core.hashing.byte_words import ByteWords, turns_of
from recis_core.hashing.unsigned import shifted, signed

M = signed(0xC6A4A7935BD1E995)
R = 47
PAIR = signed(16 * 0xC6A4A7935BD1E995 % (1 << 64))


def scrambled(k: Tensor) -> Tensor:
    k = k * M
    return (k ^ shifted(k, R)) * M


def finished(h: Tensor) -> Tensor:
    h = (h ^ shifted(h, R)) * M
    return h ^ shifted(h, R)


def murmur64(text: ByteWords, beg: Tensor, length: Tensor, seed: int = 0) -> Tensor:
    """int64 [N]: the hashes of `length` bytes from `beg` on."""
    h = (length * M) ^ signed(seed)
    order, active = turns_of(length >> 3)
    h, ordered = h[order], beg[order]
    for turn, count in enumerate(active):
        h[:count] = (h[:count] ^ scrambled(text.word(ordered[:count] + 8 * turn))) * M
    h = h[order.argsort()]
    rest = length & 7
    tail = text.word(beg + length - rest) & ((rest.new_ones(()) << (rest << 3)) - 1)
    return finished(((h ^ tail) * M).where(rest > 0, h))


def murmur_pair(x: Tensor, y: Tensor) -> Tensor:
    """int64: the hashes of x's eight bytes and y's."""
    h = (scrambled(x) ^ PAIR) * M
    return finished((h ^ scrambled(y)) * M)
