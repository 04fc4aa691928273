"""The fewest rows that a table of K rows on the device must bring in, were all calls known beforehand.

A call needs all of its rows there at once; those of no call to come, then those of the latest, leave for them. Each miss
costs one row moved, whatever the number of its occurrences, so this is Belady's optimum (1966) of rows moved.

Sizes: U unique keys of a call, V keys of the trace.
"""

from __future__ import annotations

import numpy as np

NEVER = np.int64(1) << 40


def misses(calls: list[np.ndarray], keys: int, rows: int, *, between: bool = False) -> int:
    """Rows brought in. calls: int64 [U] each, distinct numbers below V = keys.

    between: K = rows bounds what stays between calls; a call's own rows come on top. Otherwise it bounds all.

    Raises:
      ValueError: a call has more keys than rows hold.
    """
    if not between and max(map(len, calls)) > rows:
        raise ValueError(f"rows must hold every call; got {rows} for a call of {max(map(len, calls))} keys.")
    following = _following(calls, keys)
    here, next_use = np.zeros(keys, bool), np.full(keys, NEVER)
    held = missed = 0
    for asked, used_next in zip(calls, following, strict=True):
        missing = asked[~here[asked]]
        held, missed = held + len(missing), missed + len(missing)
        leaves = max(0, held - rows)
        if not between:
            here[_farthest(here, next_use, asked, leaves)] = False
        here[missing], next_use[asked] = True, used_next
        if between:
            here[_farthest(here, next_use, asked[:0], leaves)] = False
        held -= leaves
    return missed


def _farthest(here: np.ndarray, next_use: np.ndarray, asked: np.ndarray, count: int) -> np.ndarray:
    if not count:
        return asked[:0]
    free = here.copy()
    free[asked] = False
    at = np.flatnonzero(free)
    return at[np.argpartition(-next_use[at], count - 1)[:count]]


def _following(calls: list[np.ndarray], keys: int) -> list[np.ndarray]:
    """Of each call's keys, the number of the next call that asks for them."""
    last, found = np.full(keys, NEVER), []
    for number in range(len(calls) - 1, -1, -1):
        found.append(last[calls[number]])
        last[calls[number]] = number
    return found[::-1]
