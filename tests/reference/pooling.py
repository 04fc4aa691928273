"""Pooling and its gradients in float64, a bag at a time.

Sizes: N ids, U unique ids, B bags, D dim.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def divisor(weights: np.ndarray, combiner: str) -> float:
    """What a bag's sum is divided by; 0 stands for a bag that gives zeros, NaN for one that gives NaN."""
    if combiner not in ("mean", "sqrtn"):
        return 1.0
    if not np.isfinite(weights).all():
        return np.nan
    return float(weights.sum()) if combiner == "mean" else float(np.sqrt((weights**2).sum()))


def pool(
    rows: np.ndarray,
    inverse: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray | None,
    combiner: str,
    tile_len: int | None = None,
) -> np.ndarray:
    """As Backend.pool, float64."""
    w = _weights(weights, len(inverse))
    weighted = rows.astype(np.float64)[inverse] * w[:, None]
    if combiner == "none":
        return weighted
    out = [_pool_bag(weighted[b:e], w[b:e], combiner, tile_len) for b, e in pairwise(offsets)]
    width = rows.shape[1] * (tile_len if combiner == "tile" and tile_len else 1)
    return np.array(out, np.float64).reshape(len(offsets) - 1, width)


def _pool_bag(weighted: np.ndarray, w: np.ndarray, combiner: str, tile_len: int | None) -> np.ndarray:
    if combiner == "tile":
        tiles = np.zeros((tile_len or 0, weighted.shape[1]))
        tiles[: len(weighted)] = weighted[:tile_len]
        return tiles.reshape(-1)
    by = divisor(w, combiner)
    return weighted.sum(0) / by if by != 0 else np.zeros(weighted.shape[1])


def pool_grad(
    grad: np.ndarray,
    rows: np.ndarray,
    inverse: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray | None,
    combiner: str,
    tile_len: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As Backend.pool_grad, float64: gradients to rows [U, D] and to weights [N]."""
    rows, grad, w = rows.astype(np.float64), grad.astype(np.float64), _weights(weights, len(inverse))
    to_rows, to_weights = np.zeros(rows.shape), np.zeros(len(inverse))
    of_bag = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    out = pool(rows, inverse, offsets, weights, combiner, tile_len)
    for i, u in enumerate(inverse):
        b = i if combiner == "none" else of_bag[i]
        bag = slice(offsets[of_bag[i]], offsets[of_bag[i] + 1])
        to_row, to_weights[i] = _occurrence_grad(grad[b], rows[u], w[i], w[bag], i - bag.start, out[b], combiner)
        to_rows[u] += to_row
    return to_rows, to_weights


def _occurrence_grad(
    grad: np.ndarray, row: np.ndarray, w: float, bag: np.ndarray, place: int, out: np.ndarray, combiner: str
) -> tuple[np.ndarray, float]:
    if combiner == "tile":
        tiles = grad.reshape(-1, len(row))
        part = tiles[place] if place < len(tiles) else np.zeros(len(row))
        return w * part, float(part @ row)
    by = divisor(bag, combiner)
    if by == 0:
        return np.zeros(len(row)), 0.0
    # d/dw of the divisor: mean 1, sqrtn w / by
    slope = {"mean": 1.0, "sqrtn": w / by}
    through = row - slope[combiner] * out if combiner in slope else row
    return w / by * grad, float(grad @ through) / by


def _weights(weights: np.ndarray | None, n: int) -> np.ndarray:
    return np.ones(n) if weights is None else weights.astype(np.float64)
