"""bfloat16 rows with exponents counted down from the row's largest; one row at a time.

Sizes: D dim.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.numba_backend.compiled import compiled
from recis_core.backends.numba_backend.rounding import BYTE, to_bfloat16
from recis_core.backends.row_codes import ESCAPE

SEVEN, EIGHT, SIGN_BIT, FRACTION_BITS = np.uint32(7), np.uint32(8), np.uint32(128), np.uint32(127)


@compiled
def put_lossless(bits, out, back, escapes):  # type: ignore[no-untyped-def]
    """bits: of clamped float32. Escaped exponents into `escapes` [D]; how many there are."""
    dim, top = len(bits), np.uint32(0)
    codes = back.view(np.uint32)
    for d in range(dim):
        codes[d] = to_bfloat16(bits[d], np.uint32(0), False)
        top = max(top, np.uint32((codes[d] >> SEVEN) & BYTE))
    out[0] = np.uint8(top)
    for d in range(dim):
        out[1 + d] = np.uint8(np.uint32((codes[d] >> EIGHT) & SIGN_BIT) | np.uint32(codes[d] & FRACTION_BITS))
    count, pending, filled, at = 0, np.uint32(0), np.uint32(0), 1 + dim
    for d in range(dim):
        exponent = np.uint32((codes[d] >> SEVEN) & BYTE)
        delta = min(np.uint32(top - exponent), np.uint32(ESCAPE))
        if delta == ESCAPE:
            escapes[count] = np.uint8(exponent)
            count += 1
        pending = np.uint32(pending | np.uint32(delta << filled))
        filled = np.uint32(filled + np.uint32(3))
        if filled >= EIGHT:
            out[at] = np.uint8(pending & BYTE)
            at, pending, filled = at + 1, np.uint32(pending >> EIGHT), np.uint32(filled - EIGHT)
    if filled > 0:
        out[at] = np.uint8(pending)
    for d in range(dim):
        codes[d] = np.uint32(codes[d] << np.uint32(16))
    return count


@compiled
def delta_of(row, dim, d):  # type: ignore[no-untyped-def]
    bit = 3 * d
    at = 1 + dim + bit // 8
    word = np.uint32(row[at]) | np.uint32(np.uint32(row[at + 1]) << EIGHT if at + 1 < len(row) else np.uint32(0))
    return np.int64(word >> np.uint32(bit % 8)) & 7


@compiled
def escapes_of(row, dim):  # type: ignore[no-untyped-def]
    count = 0
    for d in range(dim):
        count += delta_of(row, dim, d) == ESCAPE
    return count


@compiled
def get_lossless(row, tail, out):  # type: ignore[no-untyped-def]
    """tail: the row's own."""
    bits, dim, used = out.view(np.uint32), len(out), 0
    for d in range(dim):
        delta = delta_of(row, dim, d)
        exponent = np.int64(row[0]) - delta
        if delta == ESCAPE:
            exponent = np.int64(tail[used])
            used += 1
        fraction = np.int64(row[1 + d])
        code = (fraction & 128) << 8 | (exponent & 255) << 7 | (fraction & 127)
        bits[d] = np.uint32(code << 16)
