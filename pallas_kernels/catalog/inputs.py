"""Shapes and arrays that the catalog's rows share.

Sizes: N ids, B bags, U unique rows, T groups of hyper numbers, R rows, D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels.index import Format, Index, Keys
from recis_core.pallas_kernels.insertion import Settings
from recis_core.pallas_kernels.kernel import Sizes, shape
from recis_core.pallas_kernels.operands import SCALED
from recis_core.pallas_kernels.tuning import MAX_DIM

N, B, U, T = 65_536, 8_192, 65_536, 4
WAYS, STASH = 16, 1_024
ALL_WAYS = (1, 2, 4, 8, WAYS)  # that an index may have, and so all configs of its kernels
# Constants of the hash here are any odd ones; a caller brings those of its own tables.
FORM = Format(0x9E3779B9, 0x7F4A7C15, 0x6A09E667, 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, rounds=8, chunk=32_768)
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


def index_of(buckets: int, ways: int = WAYS, rows: int | None = None) -> Index:
    """Shapes of an index of so many buckets; claims, which kernels do not use, are None."""
    entries, rows = buckets * ways + STASH, buckets * ways if rows is None else rows
    words, numbers = (shape("uint32", entries),) * 3, (shape("int32", entries),) * 3
    counts = (shape("int32"),) * 3
    return Index(
        shape("uint32", buckets, ways), *words, *numbers, shape("int32", rows), *counts, shape("int32", buckets), None
    )


def empty_index(buckets: int, ways: int = WAYS) -> Index:
    index = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), index_of(buckets, ways))
    return index._replace(rows=index.rows - 1, stamps=index.stamps - 1)


def keys_of(numbers: np.ndarray) -> Keys:
    """A spread 64-bit id of group 0 for each number, in key order."""
    ids = np.sort(numbers.astype(np.int64) * np.int64(-7046029254386353131) + np.int64(1))
    bits = ids.view(np.uint64)
    lo, hi = bits.astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32)
    return Keys(jnp.asarray(lo), jnp.asarray(hi), jnp.zeros(len(ids), jnp.uint32))


def settings_of(
    count: int, *, step: int = 1, pinned_from: int = 0, score: int = 1, max_rows: int = 2**31 - 1
) -> Settings:
    return Settings(*(jnp.int32(x) for x in (count, max_rows, step, pinned_from, score)))
