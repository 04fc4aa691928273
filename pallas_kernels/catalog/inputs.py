"""Shapes and arrays that the catalog's rows share.

Sizes: N ids, B bags, U unique rows, T groups of hyper numbers, R rows, D dim.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.kernel import Sizes
from pallas_kernels.operands import SCALED
from pallas_kernels.tuning import MAX_DIM

N, B, U, T = 65_536, 8_192, 65_536, 4
ODD_DIMS = (1, 7, 100)  # and every power of two: between them all configs that the heuristics choose


def widths() -> tuple[int, ...]:
    powers = tuple(1 << k for k in range(1, MAX_DIM.bit_length()))
    return ODD_DIMS + powers


def table_of(rng: np.random.Generator, sizes: Sizes) -> tuple[jax.Array, jax.Array | None]:
    """(table [R, D], scale [R] or None), made on the device: it may be gigabytes."""
    key = jax.random.key(int(rng.integers(1 << 31)))
    values = jax.random.normal(key, (sizes.rows, sizes.dim), jnp.float32)
    if sizes.dtype not in SCALED:
        return values.astype(sizes.dtype), None
    return (values * 30).astype(sizes.dtype), jnp.full(sizes.rows, 1 / 30, jnp.float32)


def skewed(rng: np.random.Generator, sizes: Sizes, alpha: float = 1.05) -> np.ndarray:
    """int32 [N] row numbers below R, P(rank r) ∝ (r + 1)^−alpha, popular rows anywhere in memory."""
    weights = np.arange(1, sizes.rows + 1, dtype=np.float64) ** -alpha
    ranks = np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(sizes.ids))
    return rng.permutation(sizes.rows)[np.minimum(ranks, sizes.rows - 1)].astype(np.int32)


def segments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(distinct rows ascending [U], stable order [N], offsets [U + 1]) of int32 [N]."""
    distinct, counts = np.unique(rows, return_counts=True)
    order = np.argsort(rows, kind="stable").astype(np.int32)
    return distinct.astype(np.int32), order, np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def leaves_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
