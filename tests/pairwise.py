"""Of all combinations, enough to show every pair of values once: what a plain run takes where the full one takes all."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations


def pairwise(cases: Iterable[Sequence[Hashable]]) -> set[int]:
    """Numbers of cases, each a row of factors' values, that between them hold every pair of values that any case holds.

    Taken greedily: of those left always the first with the most pairs not yet seen. One factor alone: every value.
    """
    rows = [_pairs(case) for case in cases]
    missing, kept = set().union(*rows), set()
    while missing:
        best = max(range(len(rows)), key=lambda i: (len(rows[i] & missing), -i))
        missing -= rows[best]
        kept.add(best)
    return kept


def _pairs(case: Sequence[Hashable]) -> set[tuple[Hashable, ...]]:
    factors = list(enumerate(case))
    return set(combinations(factors, 2)) if len(factors) > 1 else {(f,) for f in factors}
