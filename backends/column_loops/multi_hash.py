"""Several hashes of each id, by multiplier, prime and buckets. Sizes: C columns, N ids of all columns, J hashes of an id."""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.column_loops.addresses import begin_of, column_of, int64_at, turns_for
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel

CHUNK = 4096  # ids a thread takes at a time


def hash_columns(  # type: ignore[no-untyped-def]
    ids: np.ndarray, starts: np.ndarray, rule_at: np.ndarray, rules: np.ndarray, outs: np.ndarray, out
) -> None:
    """ids int64 [C], addresses. rules int64 [·, 3]: multiplier, prime, buckets; column c's are rule_at[c] to rule_at[c + 1].
    Hash j of id i of column c goes to out[outs[c] + j · size of c + i]."""
    _hash_all(ids, starts, rule_at, rules, outs, out, turns_for(int(starts[-1]), CHUNK))


@compiled_parallel
def _hash_all(ids, starts, rule_at, rules, outs, out, turns):  # type: ignore[no-untyped-def]
    N = starts[-1]
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        if beg < N:
            _fill(ids, starts, rule_at, rules, outs, beg, min(beg + CHUNK, N), out)


@compiled
def _fill(ids, starts, rule_at, rules, outs, beg, end, out):  # type: ignore[no-untyped-def]
    c = column_of(starts, beg)
    while beg < end:
        stop, size, first = min(end, starts[c + 1]), starts[c + 1] - starts[c], starts[c]
        for j in range(rule_at[c + 1] - rule_at[c]):
            mul, prime, buckets = rules[rule_at[c] + j]
            to = outs[c] + j * size
            for n in range(beg, stop):
                out[to + n - first] = int64_at(ids[c] + 8 * (n - first)) * mul % prime % buckets
        beg, c = max(beg, stop), c + 1
