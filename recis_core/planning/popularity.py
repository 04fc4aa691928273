"""How often each id of a table is used, for tables of up to 10^15 rows: power laws on a geometric grid.

Ranks count from 1, the most used id. Each of the first EXACT ranks is one group; later groups
grow by RATIO, and all ids of a group count as its mean. Sizes: R rows, G groups, 20,000 at most.
"""

from __future__ import annotations

import numpy as np

EXACT = 1 << 14
RATIO = 1.01


def groups(rows: int) -> np.ndarray:
    """First rank of each group, and R + 1: float64 [G + 1], whole numbers."""
    single = np.arange(1, min(rows, EXACT) + 1, dtype=np.float64)
    if rows <= EXACT:
        return np.append(single, rows + 1.0)
    steps = int(np.log(rows / EXACT) / np.log(RATIO))
    wide = np.unique(np.floor((EXACT + 1) * RATIO ** np.arange(steps + 1)))
    return np.concatenate([single, wide[wide <= rows], [rows + 1.0]])


def shares(edges: np.ndarray, skew: float, shift: float = 0.0, hot: float = 0.0) -> np.ndarray:
    """float64 [G]: the chance that an id drawn is a given one of the group; Σ widths · shares = 1.

    ∝ (rank + shift)^-skew, Zipf and Mandelbrot's law; then a share `hot` of all ids goes to rank 1.
    """
    first, widths = edges[:-1] + shift, np.diff(edges)
    # Σ over a group ≈ ∫ between the half ranks around it: exact to (skew / rank)² / 24.
    low, high = first - 0.5, first - 0.5 + widths
    weight = np.where(widths == 1, first**-skew, _integral(low, high, skew) / widths)
    share = (1 - hot) * weight / (widths * weight).sum()
    share[0] += hot
    return share


def _integral(low: np.ndarray, high: np.ndarray, skew: float) -> np.ndarray:
    """∫ x^-skew dx, without cancellation near skew 1."""
    wide = np.log(high) - np.log(low)
    grown = (1 - skew) * wide
    factor = np.where(np.abs(grown) < 1e-12, 1.0, np.expm1(grown) / np.where(grown == 0, 1.0, grown))
    return low ** (1 - skew) * wide * factor
