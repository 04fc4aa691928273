"""Places of chosen positions in rows that were cut and padded. Sizes: R rows, B chosen rows, K positions of each."""

from __future__ import annotations

from recis_core.backends.numba_backend.compiled import compiled


@compiled
def list_places(topk, indicator, first, last, shift, places, new):  # type: ignore[no-untyped-def]
    """places int64 [B · K] and offsets new int64 [B + 1] of positions topk [B, K] in rows indicator [B]: position k of row r lies
    at shift[r] + k if that is from first[r] to last[r] - 1, int64 [R] each. Returns how many do."""
    count = 0
    new[0] = 0
    for b in range(len(indicator)):
        r = indicator[b]
        for k in range(topk.shape[1]):
            at = shift[r] + topk[b, k]
            if topk[b, k] >= 0 and first[r] <= at and at < last[r]:
                places[count] = at
                count += 1
        new[b + 1] = count
    return count
