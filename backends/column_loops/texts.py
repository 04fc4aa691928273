"""Where each text of a column lies: between offsets, in Arrow's views, or at a fixed distance; and Arrow's validity bits.

Each loop over texts checks a text's place before it reads there, for offsets come from files, and from users.

Sizes: C columns, N texts of all columns.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.column_loops.addresses import byte_at, int32_at, int64_at
from recis_core.backends.numba_backend.compiled import inlined

# A column of texts: `data`, the address of its bytes and `size`, how many; `places`, the address of what says where.
COLUMN = np.dtype(
    [(name, "i8") for name in ("data", "size", "places", "layout", "width", "valid", "valid_from", "buffers")]
)
OFFSETS32, OFFSETS64, VIEWS, FIXED = 0, 1, 2, 3
INLINE = 12  # bytes of a text that its view holds itself
CHUNK = 512  # texts a thread takes at a time
NO_TEXT = np.int64(-1)  # the length of a null
NOT_THERE = np.int64(-2)  # the length of a text whose place is outside of its column


@inlined
def text_at(i, data, size, places, layout, width, valid, valid_from, buffers):  # type: ignore[no-untyped-def]
    """(address, length) of text i of a column; the length is NO_TEXT or NOT_THERE where there is nothing to read.

    Takes a COLUMN's fields one by one: read from memory, they would be read anew after each hash that is written.
    """
    if valid != 0:
        bit = valid_from + i
        if (byte_at(valid + (bit >> 3)) >> np.uint64(bit & 7)) & np.uint64(1) == np.uint64(0):
            return np.int64(0), NO_TEXT
    if layout == VIEWS:
        return _viewed(places + 16 * i, data, buffers)
    if layout == OFFSETS32:
        beg, end = np.int64(int32_at(places + 4 * i)), np.int64(int32_at(places + 4 * i + 4))
    elif layout == OFFSETS64:
        beg, end = int64_at(places + 8 * i), int64_at(places + 8 * i + 8)
    else:
        beg, end = (valid_from + i) * width, (valid_from + i + 1) * width
    if beg < 0 or end < beg or end > size:
        return np.int64(0), NOT_THERE
    return data + beg, end - beg


@inlined
def _viewed(view, tables, buffers):  # type: ignore[no-untyped-def]
    """A view: length, then the text, or four bytes of it, the buffer and the offset there. tables: (address, size) pairs."""
    length = np.int64(int32_at(view))
    if length < 0:
        return np.int64(0), NOT_THERE
    if length <= INLINE:
        return view + 4, length
    buffer, beg = np.int64(int32_at(view + 8)), np.int64(int32_at(view + 12))
    if buffer < 0 or buffer >= buffers or beg < 0 or beg + length > int64_at(tables + 16 * buffer + 8):
        return np.int64(0), NOT_THERE
    return int64_at(tables + 16 * buffer) + beg, length
