"""Which vector goes into each row of tiles. Sizes: G groups, B rows of all groups, N indices, T tile rows."""

from __future__ import annotations

from recis_core.backends.numba_backend.compiled import compiled


@compiled
def tile_sources(batch, seq, offsets, source):  # type: ignore[no-untyped-def]
    """source int64 [T]: the place among indices of each tile row, -1 for zeros. batch, seq int64 [G]; offsets int64 [B + 1]."""
    row, to = 0, 0
    for g in range(len(batch)):
        for _ in range(batch[g]):
            beg, length = offsets[row], offsets[row + 1] - offsets[row]
            for k in range(seq[g]):
                source[to] = beg + k if k < length else -1
                to += 1
            row += 1
