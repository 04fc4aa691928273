"""FarmHash's Fingerprint64 (farmhashna Hash64) of bytes at an address."""

from __future__ import annotations

import numpy as np

from recis_core.backends.column_loops.addresses import byte_at, half_at, word_at
from recis_core.backends.numba_backend.compiled import compiled, inlined

K0 = np.uint64(0xC3A5C85C97CB3127)
K1 = np.uint64(0xB492B66FBE98F273)
K2 = np.uint64(0x9AE16A3B2F90404F)
SEED, ADDED = np.uint64(81), np.uint64(113)
WORD = np.uint64(64)
ONE, NINE = np.uint64(1), np.uint64(9)


@inlined
def rotated(x, by):  # type: ignore[no-untyped-def]
    return (x >> np.uint64(by)) | (x << np.uint64(WORD - np.uint64(by)))


@inlined
def _mixed(x):  # type: ignore[no-untyped-def]
    return x ^ (x >> np.uint64(47))


@inlined
def _joined(u, v, mul):  # type: ignore[no-untyped-def]
    a = _mixed((u ^ v) * mul)
    return _mixed((v ^ a) * mul) * mul


@inlined
def _to_16(s, length):  # type: ignore[no-untyped-def]
    n = np.uint64(length)
    mul = K2 + n * np.uint64(2)
    if length >= 8:
        a, b = word_at(s) + K2, word_at(s + length - 8)
        return _joined(rotated(b, 37) * mul + a, (rotated(a, 25) + b) * mul, mul)
    if length >= 4:
        return _joined(n + (half_at(s) << np.uint64(3)), half_at(s + length - 4), mul)
    if length > 0:
        y = byte_at(s) + (byte_at(s + (length >> 1)) << np.uint64(8))
        z = n + (byte_at(s + length - 1) << np.uint64(2))
        return _mixed((y * K2) ^ (z * K0)) * K2
    return K2


@inlined
def _to_32(s, length):  # type: ignore[no-untyped-def]
    mul = K2 + np.uint64(length) * np.uint64(2)
    a, b = word_at(s) * K1, word_at(s + 8)
    c, d = word_at(s + length - 8) * mul, word_at(s + length - 16) * K2
    return _joined(rotated(a + b, 43) + rotated(c, 30) + d, a + rotated(b + K2, 18) + c, mul)


@inlined
def _to_64(s, length):  # type: ignore[no-untyped-def]
    mul = K2 + np.uint64(length) * np.uint64(2)
    a, b = word_at(s) * K2, word_at(s + 8)
    c, d = word_at(s + length - 8) * mul, word_at(s + length - 16) * K2
    y = rotated(a + b, 43) + rotated(c, 30) + d
    z = _joined(y, a + rotated(b + K2, 18) + c, mul)
    e, f = word_at(s + 16) * mul, word_at(s + 24)
    g, h = (y + word_at(s + length - 32)) * mul, (z + word_at(s + length - 24)) * mul
    return _joined(rotated(e + f, 43) + rotated(g, 30) + h, e + rotated(f + a, 18) + g, mul)


@inlined
def _half_block(s, a, b):  # type: ignore[no-untyped-def]
    """32 bytes into a pair."""
    a = a + word_at(s)
    b = rotated(b + a + word_at(s + 24), 21)
    c = a
    a = a + word_at(s + 8) + word_at(s + 16)
    return a + word_at(s + 24), b + rotated(a, 44) + c


@compiled
def _long(s, length):  # type: ignore[no-untyped-def]
    x, y = SEED, SEED * K1 + ADDED
    z = _mixed(y * K2 + ADDED) * K2
    v1 = v2 = w1 = w2 = np.uint64(0)
    x = x * K2 + word_at(s)
    end, tail = s + (length - 1) // 64 * 64, (length - 1) & 63
    while s < end:
        x = rotated(x + y + v1 + word_at(s + 8), 37) * K1
        y = rotated(y + v2 + word_at(s + 48), 42) * K1
        x ^= w2
        y += v1 + word_at(s + 40)
        z = rotated(z + w1, 33) * K1
        v1, v2 = _half_block(s, v2 * K1, x + w1)
        w1, w2 = _half_block(s + 32, z + w2, y + word_at(s + 16))
        x, z = z, x
        s += 64
    mul = K1 + ((z & np.uint64(0xFF)) << ONE)
    s = end + tail - 63  # the last 64 bytes, some of them for the second time
    w1 += np.uint64(tail)
    v1 += w1
    w1 += v1
    x = rotated(x + y + v1 + word_at(s + 8), 37) * mul
    y = rotated(y + v2 + word_at(s + 48), 42) * mul
    x ^= w2 * NINE
    y += v1 * NINE + word_at(s + 40)
    z = rotated(z + w1, 33) * mul
    v1, v2 = _half_block(s, v2 * mul, x + w1)
    w1, w2 = _half_block(s + 32, z + w2, y + word_at(s + 16))
    return _joined(_joined(v1, w1, mul) + _mixed(y) * K0 + x, _joined(v2, w2, mul) + z, mul)


@inlined
def farm64(s, length):  # type: ignore[no-untyped-def]
    """The hash of `length` bytes from address s on."""
    if length <= 16:
        return _to_16(s, length)
    if length <= 32:
        return _to_32(s, length)
    if length <= 64:
        return _to_64(s, length)
    return _long(s, length)
