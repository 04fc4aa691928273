"""Of all combinations, enough to show every pair of values, or every value, once: what a plain run takes of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations


def pairwise(cases: Iterable[Sequence[Hashable]]) -> set[int]:
    """Numbers of cases, each a row of factors' values, that between them hold every pair of values that any case holds.

    Taken greedily: of those left always the first with the most pairs not yet seen. One factor alone: every value.
    """
    return _cover([_pairs(case) for case in cases])


def each_value(cases: Iterable[Sequence[Hashable]]) -> set[int]:
    """Numbers of cases that between them hold every value of every factor; taken as `pairwise` takes them."""
    return _cover([set(enumerate(case)) for case in cases])


def _cover(rows: Sequence[set[tuple[Hashable, ...]]]) -> set[int]:
    missing: set[tuple[Hashable, ...]] = set().union(*rows)
    kept: set[int] = set()
    while missing:
        best = max(range(len(rows)), key=lambda i: (len(rows[i] & missing), -i))
        missing -= rows[best]
        kept.add(best)
    return kept


def _pairs(case: Sequence[Hashable]) -> set[tuple[Hashable, ...]]:
    factors = list(enumerate(case))
    return set(combinations(factors, 2)) if len(factors) > 1 else {(f,) for f in factors}
