"""Metrics as their definitions say, a group and a row at a time, in plain Python: what streams are compared with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby, permutations, product
from statistics import fmean

Rows = list[tuple[float, float]]  # (prediction, label)


def by_group(predictions: Sequence[float], labels: Sequence[float], groups: Sequence[int]) -> dict[int, Rows]:
    found: dict[int, Rows] = defaultdict(list)
    for p, y, g in zip(predictions, labels, groups, strict=True):
        found[int(g)].append((float(p), float(y)))
    return found


def area(rows: Rows) -> float:
    pairs = [(p, n) for p, y in rows for n, z in rows if y == 1 and z == 0]
    return fmean((p > n) + 0.5 * (p == n) for p, n in pairs)


def gauc(groups: dict[int, Rows], weight: Callable[[Rows], float] = lambda rows: sum(y for _, y in rows)) -> float:
    both = [rows for rows in groups.values() if {y for _, y in rows} == {0.0, 1.0}]
    return sum(weight(rows) * area(rows) for rows in both) / sum(map(weight, both))


def recall(labels: list[float], k: int) -> float:
    return sum(labels[:k]) / sum(labels)


def hit(labels: list[float], k: int) -> float:
    return float(any(labels[:k]))


def reciprocal(labels: list[float], k: int) -> float:
    return next((1 / place for place, y in enumerate(labels[:k], 1) if y), 0.0)


def dcg(labels: list[float], k: int) -> float:
    return sum(y / math.log2(place + 1) for place, y in enumerate(labels[:k], 1))


def ndcg(labels: list[float], k: int) -> float:
    return dcg(labels, k) / dcg(sorted(labels, reverse=True), k)


def orders(rows: Rows) -> list[list[float]]:
    """Labels in each order that predictions allow: all orders of tied rows."""
    ranked = sorted(rows, key=lambda row: -row[0])
    tied = [[y for _, y in block] for _, block in groupby(ranked, key=lambda row: row[0])]
    return [[y for block in blocks for y in block] for blocks in product(*(list(permutations(b)) for b in tied))]


def ranked(groups: dict[int, Rows], of_labels: Callable[[list[float], int], float], k: int | None) -> float:
    """The mean over groups with a positive of the mean over all orders."""
    counted = [rows for rows in groups.values() if any(y > 0 for _, y in rows)]
    return fmean(fmean(of_labels(labels, k or len(rows)) for labels in orders(rows)) for rows in counted)
