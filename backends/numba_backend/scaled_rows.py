"""Rows with a scale before their codes: fp8, int8, int4 and signs; one row at a time.

`out` is a row's bytes, `x` its flushed float32, `word` its noise; `back` receives the decoded row.

Sizes: D dim.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.numba_backend.compiled import compiled, inlined
from recis_core.backends.numba_backend.rounding import SIGN, SIZE, to_small_float
from recis_core.backends.row_codes import (
    FP8,
    LARGEST,
    LEAST_ADDEND,
    LEAST_TOP,
    MAX_MEAN,
    inverse,
    scale_cap,
)

F32 = np.float32
INT8_TOP, INT4_TOP, FP8_TOP = (F32(LARGEST[kind]) for kind in ("int8", "int4", "fp8"))
INT8_SCALE, INT4_SCALE, FP8_SCALE = ((F32(inverse(top)), F32(scale_cap(top))) for top in (127.0, 7.0, 448.0))
FP8_MANTISSA, FP8_LEAST, FP8_LARGEST = np.int32(FP8.mantissa), np.int32(FP8.least), np.uint32(FP8.top)
DUST, FAINT, GREATEST_MEAN = F32(LEAST_ADDEND), F32(LEAST_TOP), F32(MAX_MEAN)
UNIT, DOUBLE_UNIT, ZERO, ONE = F32(2.0**-24), F32(2.0**-23), F32(0), F32(1)
LAST_BIT = np.uint32(0xFFFFFFFE)


def _float8(code: int) -> float:
    exponent, fraction = code >> 3 & 15, code & 7
    size = (fraction if exponent == 0 else (8 + fraction) * 2.0 ** (exponent - 1)) * 2.0**-9
    return (float("nan") if code & 127 == 127 else size) * (-1 if code & 128 else 1)


FLOAT8 = np.array([_float8(code) for code in range(256)], F32)


@inlined
def put_scale(out, scale):  # type: ignore[no-untyped-def]
    """By bytes, for a row's may start anywhere."""
    bits = F32(scale).view(np.uint32)
    for i in range(4):
        out[i] = np.uint8(bits >> np.uint32(8 * i))


@inlined
def get_scale(row):  # type: ignore[no-untyped-def]
    bits = np.uint32(0)
    for i in range(4):
        bits = np.uint32(bits | np.uint32(np.uint32(row[i]) << np.uint32(8 * i)))
    return np.uint32(bits).view(np.float32)


@compiled
def top_of(x):  # type: ignore[no-untyped-def]
    """max |x|, by integers: they order as the numbers do."""
    bits, top = x.view(np.uint32), np.uint32(0)
    for d in range(len(bits)):
        top = max(top, np.uint32(bits[d] & SIZE))
    return np.uint32(top).view(np.float32)


@inlined
def scale_of(x, factors):  # type: ignore[no-untyped-def]
    top = top_of(x)
    return min(F32(top * factors[0]), factors[1]) if top >= FAINT else ZERO


@inlined
def ratio_of(x, scale, top):  # type: ignore[no-untyped-def]
    return min(max(F32(x / scale), F32(-top)), top)


@inlined
def dusted(ratio):  # type: ignore[no-untyped-def]
    return ZERO if abs(ratio) < DUST else ratio


@compiled
def round_row(x, word, noisy, scale, top, back):  # type: ignore[no-untyped-def]
    """Integers into `back`; + 0 for −0 becomes 0."""
    if noisy:
        for d in range(len(x)):
            u = F32(F32(np.int32(word[d] >> np.uint32(8))) * UNIT)
            back[d] = min(max(np.floor(F32(dusted(ratio_of(x[d], scale, top)) + u)), F32(-top)), top) + ZERO
    else:
        for d in range(len(x)):
            back[d] = np.rint(ratio_of(x[d], scale, top)) + ZERO


@compiled
def multiply(back, scale):  # type: ignore[no-untyped-def]
    for d in range(len(back)):
        back[d] = F32(back[d] * scale)


@compiled
def put_int8(x, word, noisy, out, back):  # type: ignore[no-untyped-def]
    scale = scale_of(x, INT8_SCALE)
    put_scale(out, scale)
    if scale == 0:
        out[4:] = 0
        back[:] = 0
        return
    round_row(x, word, noisy, scale, INT8_TOP, back)
    codes = out[4:].view(np.int8)
    for d in range(len(back)):
        codes[d] = np.int8(np.int32(back[d]))
    multiply(back, scale)


@compiled
def put_int4(x, word, noisy, out, back):  # type: ignore[no-untyped-def]
    scale = scale_of(x, INT4_SCALE)
    put_scale(out, scale)
    out[4:] = 0
    if scale == 0:
        back[:] = 0
        return
    round_row(x, word, noisy, scale, INT4_TOP, back)
    for d in range(len(back) // 2):
        low, high = np.int32(back[2 * d]) & 15, np.int32(back[2 * d + 1]) & 15
        out[4 + d] = np.uint8(low | high << 4)
    if len(back) % 2:
        out[len(out) - 1] = np.uint8(np.int32(back[len(back) - 1]) & 15)
    multiply(back, scale)


@compiled
def put_fp8(x, word, noisy, out, back):  # type: ignore[no-untyped-def]
    scale = scale_of(x, FP8_SCALE)
    put_scale(out, scale)
    if scale == 0:
        out[4:] = 0
        back[:] = 0
        return
    for d in range(len(x)):
        bits = F32(ratio_of(x[d], scale, FP8_TOP)).view(np.uint32)
        size = to_small_float(bits, word[d] if noisy else np.uint32(0), noisy, FP8_MANTISSA, FP8_LEAST, FP8_LARGEST)
        out[4 + d] = np.uint8(size | np.uint32((bits & SIGN) >> np.uint32(24)))
        back[d] = F32(FLOAT8[out[4 + d]] * scale)


@compiled
def mean_size(x, part):  # type: ignore[no-untyped-def]
    """part: scratch of the least power of two ≥ D."""
    size, dim = len(part), len(x)
    share, factor = F32(1.0 / size), F32(size / dim)
    for d in range(dim):
        part[d] = F32((ZERO if abs(x[d]) < DUST else abs(x[d])) * share)
    part[dim:] = 0
    while size > 1:
        size //= 2
        for d in range(size):
            part[d] = F32(part[d] + part[size + d])
    mean = min(F32(part[0] * factor), GREATEST_MEAN)
    return np.uint32(F32(mean).view(np.uint32) & LAST_BIT).view(np.float32)


@compiled
def put_sign(x, word, noisy, out, back, part):  # type: ignore[no-untyped-def]
    scale = mean_size(x, part) if top_of(x) >= FAINT else ZERO
    put_scale(out, scale)
    out[4:] = 0
    bits = x.view(np.uint32)
    for d in range(len(x)):
        negative = (bits[d] & SIGN) != 0
        if noisy and scale > 0:
            threshold = F32(F32(F32(np.int32(word[d] >> np.uint32(8))) * DOUBLE_UNIT) - ONE)
            negative = threshold >= dusted(F32(x[d] / scale))
        negative = negative and scale > 0
        out[4 + d // 8] |= np.uint8(np.uint8(negative) << np.uint8(d % 8))
        back[d] = -scale if negative else scale


@compiled
def get_int8(row, out):  # type: ignore[no-untyped-def]
    scale, codes = get_scale(row), row[4:].view(np.int8)
    for d in range(len(out)):
        out[d] = F32(F32(codes[d]) * scale)


@compiled
def get_int4(row, out):  # type: ignore[no-untyped-def]
    scale = get_scale(row)
    for d in range(len(out)):
        code = np.int32(row[4 + d // 2]) >> (4 * (d % 2)) & 15
        out[d] = F32(F32((code ^ 8) - 8) * scale)


@compiled
def get_fp8(row, out):  # type: ignore[no-untyped-def]
    scale = get_scale(row)
    for d in range(len(out)):
        out[d] = F32(FLOAT8[row[4 + d]] * scale)


@compiled
def get_sign(row, out):  # type: ignore[no-untyped-def]
    scale = get_scale(row)
    for d in range(len(out)):
        out[d] = -scale if row[4 + d // 8] >> (d % 8) & 1 else scale
