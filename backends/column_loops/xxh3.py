"""XXH3 of 64 bits, seed 0 and the default secret, of bytes at an address: by xxHash's doc/xxhash_spec.md."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from recis_core.backends.column_loops.addresses import byte_at, half_at, word_at
from recis_core.backends.column_loops.farmhash import rotated
from recis_core.backends.numba_backend.compiled import compiled, inlined

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
S = np.array([int.from_bytes(SECRET[k : k + 8], "little") for k in range(len(SECRET) - 7)], np.uint64)  # at each byte
P32_1, P32_2, P32_3 = np.uint64(0x9E3779B1), np.uint64(0x85EBCA77), np.uint64(0xC2B2AE3D)
P64_1, P64_2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
P64_3, P64_4 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63)
P64_5 = np.uint64(0x27D4EB2F165667C5)
MX_1, MX_2 = np.uint64(0x165667919E3779F9), np.uint64(0x9FB21C651E98DF25)
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
FEW_FLIP = (S[0] & LOW) ^ (S[0] >> HALF)
FOUR_FLIP, NINE_LOW, NINE_HIGH = S[8] ^ S[16], S[24] ^ S[32], S[40] ^ S[48]
STRIPE, STRIPES = 64, 16  # bytes; stripes of a block


@intrinsic
def _folded(typing_context, x, y):  # type: ignore[no-untyped-def]
    """The two halves of x · y, 128 bits, xored."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        wide, narrow = ir.IntType(128), ir.IntType(64)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), narrow)
        return builder.xor(high, builder.trunc(product, narrow))

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def _bytes_swapped(typing_context, word):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bswap(arguments[0])

    return types.uint64(types.uint64), generate


@inlined
def _avalanche(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> np.uint64(37))) * MX_1
    return x ^ (x >> HALF)


@inlined
def _avalanche_64(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> np.uint64(33))) * P64_2
    x = (x ^ (x >> np.uint64(29))) * P64_3
    return x ^ (x >> HALF)


@inlined
def _to_16(s, length):  # type: ignore[no-untyped-def]
    n = np.uint64(length)
    if length > 8:
        low, high = NINE_LOW ^ word_at(s), NINE_HIGH ^ word_at(s + length - 8)
        return _avalanche(n + _bytes_swapped(low) + high + _folded(low, high))
    if length >= 4:
        x = FOUR_FLIP ^ (half_at(s + length - 4) | (half_at(s) << HALF))
        x ^= rotated(x, 15) ^ rotated(x, 40)
        x *= MX_2
        x = (x ^ ((x >> np.uint64(35)) + n)) * MX_2
        return x ^ (x >> np.uint64(28))
    if length > 0:
        x = byte_at(s + length - 1) | (n << np.uint64(8))
        x |= (byte_at(s) << np.uint64(16)) | (byte_at(s + (length >> 1)) << np.uint64(24))
        return _avalanche_64(FEW_FLIP ^ x)
    return _avalanche_64(S[56] ^ S[64])


@inlined
def _mix(s, k):  # type: ignore[no-untyped-def]
    """16 bytes with the secret's from byte k on."""
    return _folded(word_at(s) ^ S[k], word_at(s + 8) ^ S[k + 8])


@inlined
def _to_128(s, length):  # type: ignore[no-untyped-def]
    total = np.uint64(length) * P64_1
    for i in range(((length - 1) >> 5) + 1):
        total += _mix(s + 16 * i, 32 * i) + _mix(s + length - 16 * i - 16, 32 * i + 16)
    return _avalanche(total)


@inlined
def _to_240(s, length):  # type: ignore[no-untyped-def]
    total = np.uint64(length) * P64_1
    for i in range(8):
        total += _mix(s + 16 * i, 16 * i)
    total = _avalanche(total)
    for i in range(8, length >> 4):
        total += _mix(s + 16 * i, 16 * (i - 8) + 3)
    return _avalanche(total + _mix(s + length - 16, 119))


@inlined
def _lane(total, word, secret, beside):  # type: ignore[no-untyped-def]
    x = word ^ secret
    return total + beside + (x & LOW) * (x >> HALF)


@inlined
def _scrambled(total, secret):  # type: ignore[no-untyped-def]
    return (total ^ (total >> np.uint64(47)) ^ secret) * P32_1


@inlined
def _stripe(s, k, a, b, c, d, e, f, g, h):  # type: ignore[no-untyped-def]
    """64 bytes into eight lanes, with the secret from byte k on; a word is added to its neighbour's lane, too."""
    p, q = word_at(s), word_at(s + 8)
    a, b = _lane(a, p, S[k], q), _lane(b, q, S[k + 8], p)
    p, q = word_at(s + 16), word_at(s + 24)
    c, d = _lane(c, p, S[k + 16], q), _lane(d, q, S[k + 24], p)
    p, q = word_at(s + 32), word_at(s + 40)
    e, f = _lane(e, p, S[k + 32], q), _lane(f, q, S[k + 40], p)
    p, q = word_at(s + 48), word_at(s + 56)
    g, h = _lane(g, p, S[k + 48], q), _lane(h, q, S[k + 56], p)
    return a, b, c, d, e, f, g, h


@compiled
def _long(s, length):  # type: ignore[no-untyped-def]
    a, b, c, d, e, f, g, h = P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1
    stripes, last = (length - 1) // STRIPE, s + length - STRIPE
    for n in range(stripes):
        a, b, c, d, e, f, g, h = _stripe(s + STRIPE * n, 8 * (n & (STRIPES - 1)), a, b, c, d, e, f, g, h)
        if n & (STRIPES - 1) == STRIPES - 1:
            a, b, c, d = _scrambled(a, S[128]), _scrambled(b, S[136]), _scrambled(c, S[144]), _scrambled(d, S[152])
            e, f, g, h = _scrambled(e, S[160]), _scrambled(f, S[168]), _scrambled(g, S[176]), _scrambled(h, S[184])
    a, b, c, d, e, f, g, h = _stripe(last, 121, a, b, c, d, e, f, g, h)
    total = np.uint64(length) * P64_1
    total += _folded(a ^ S[11], b ^ S[19]) + _folded(c ^ S[27], d ^ S[35])
    total += _folded(e ^ S[43], f ^ S[51]) + _folded(g ^ S[59], h ^ S[67])
    return _avalanche(total)


@inlined
def xxh3(s, length):  # type: ignore[no-untyped-def]
    """The hash of `length` bytes from address s on."""
    if length <= 16:
        return _to_16(s, length)
    if length <= 128:
        return _to_128(s, length)
    if length <= 240:
        return _to_240(s, length)
    return _long(s, length)
