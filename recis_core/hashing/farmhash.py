"""FarmHash's Fingerprint64 (farmhashna Hash64) in plain torch. Sizes: N texts."""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.hashing.byte_words import ByteWords, turns_of
from recis_core.hashing.unsigned import rotated, shifted, signed

K0 = signed(0xC3A5C85C97CB3127)
K1 = signed(0xB492B66FBE98F273)
K2 = signed(0x9AE16A3B2F90404F)
SEED, ADDED = 81, 113
BLOCK = 64  # bytes


def farm64(text: ByteWords, beg: Tensor, length: Tensor) -> Tensor:
    """int64 [N]: the hashes of `length` bytes from `beg` on."""
    out = torch.full_like(length, K2)
    bounds = (
        (1, 3, _to_3),
        (4, 7, _to_7),
        (8, 16, _to_16),
        (17, 32, _to_32),
        (33, BLOCK, _to_64),
        (BLOCK + 1, None, _long),
    )
    for least, most, hash_of in bounds:
        chosen = length >= least if most is None else (length >= least) & (length <= most)
        at = chosen.nonzero()[:, 0]
        if len(at):
            out[at] = hash_of(text, beg[at], length[at])
    return out


def _mixed(x: Tensor) -> Tensor:
    return x ^ shifted(x, 47)


def _joined(u: Tensor, v: Tensor, mul: Tensor) -> Tensor:
    a = _mixed((u ^ v) * mul)
    return _mixed((v ^ a) * mul) * mul


def _to_3(text: ByteWords, s: Tensor, n: Tensor) -> Tensor:
    y = text.byte(s) + (text.byte(s + (n >> 1)) << 8)
    z = n + (text.byte(s + n - 1) << 2)
    return _mixed((y * K2) ^ (z * K0)) * K2


def _to_7(text: ByteWords, s: Tensor, n: Tensor) -> Tensor:
    return _joined(n + (text.half(s) << 3), text.half(s + n - 4), K2 + n * 2)


def _to_16(text: ByteWords, s: Tensor, n: Tensor) -> Tensor:
    mul = K2 + n * 2
    a, b = text.word(s) + K2, text.word(s + n - 8)
    return _joined(rotated(b, 37) * mul + a, (rotated(a, 25) + b) * mul, mul)


def _to_32(text: ByteWords, s: Tensor, n: Tensor) -> Tensor:
    mul = K2 + n * 2
    a, b = text.word(s) * K1, text.word(s + 8)
    c, d = text.word(s + n - 8) * mul, text.word(s + n - 16) * K2
    return _joined(rotated(a + b, 43) + rotated(c, 30) + d, a + rotated(b + K2, 18) + c, mul)


def _to_64(text: ByteWords, s: Tensor, n: Tensor) -> Tensor:
    mul = K2 + n * 2
    a, b = text.word(s) * K2, text.word(s + 8)
    c, d = text.word(s + n - 8) * mul, text.word(s + n - 16) * K2
    y = rotated(a + b, 43) + rotated(c, 30) + d
    z = _joined(y, a + rotated(b + K2, 18) + c, mul)
    e, f = text.word(s + 16) * mul, text.word(s + 24)
    g, h = (y + text.word(s + n - 32)) * mul, (z + text.word(s + n - 24)) * mul
    return _joined(rotated(e + f, 43) + rotated(g, 30) + h, e + rotated(f + a, 18) + g, mul)


def _half_block(text: ByteWords, s: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a = a + text.word(s)
    b = rotated(b + a + text.word(s + 24), 21)
    c = a
    a = a + text.word(s + 8) + text.word(s + 16)
    return a + text.word(s + 24), b + rotated(a, 44) + c


def _block(text: ByteWords, s: Tensor, state: Tensor, mul: Tensor | int, lift: int) -> Tensor:
    """64 bytes into the state int64 [7, N]: x, y, z and the two pairs."""
    x, y, z, v1, v2, w1, w2 = state
    x = rotated(x + y + v1 + text.word(s + 8), 37) * mul
    y = rotated(y + v2 + text.word(s + 48), 42) * mul
    x = x ^ (w2 * lift)
    y = y + v1 * lift + text.word(s + 40)
    z = rotated(z + w1, 33) * mul
    v1, v2 = _half_block(text, s, v2 * mul, x + w1)
    w1, w2 = _half_block(text, s + 32, z + w2, y + text.word(s + 16))
    return torch.stack([z, y, x, v1, v2, w1, w2])


def _long(text: ByteWords, s: Tensor, n: Tensor) -> Tensor:
    y = signed((SEED * (K1 % (1 << 64)) + ADDED) % (1 << 64))
    start = torch.tensor([0, y, 0, 0, 0, 0, 0], device=s.device)
    state = start[:, None].repeat(1, len(s))
    state[0] = signed(SEED * (K2 % (1 << 64)) % (1 << 64)) + text.word(s)
    state[2] = _mixed(state[1] * K2 + ADDED) * K2
    blocks, tail = (n - 1) // BLOCK, (n - 1) & (BLOCK - 1)
    order, active = turns_of(blocks)
    state, ordered = state[:, order], s[order]
    for turn, count in enumerate(active):
        state[:, :count] = _block(text, ordered[:count] + BLOCK * turn, state[:, :count], K1, 1)
    return _finished(text, state[:, order.argsort()], s + n - BLOCK, tail)


def _finished(text: ByteWords, state: Tensor, last: Tensor, tail: Tensor) -> Tensor:
    x, y, z, v1, v2, w1, w2 = state
    mul = K1 + ((z & 0xFF) << 1)
    w1 = w1 + tail
    v1 = v1 + w1
    w1 = w1 + v1
    z, y, x, v1, v2, w1, w2 = _block(text, last, torch.stack([x, y, z, v1, v2, w1, w2]), mul, 9)
    return _joined(_joined(v1, w1, mul) + _mixed(y) * K0 + x, _joined(v2, w2, mul) + z, mul)
