"""Sums of weighted rows over segments, in an order that never changes.

    source   4 0 | 2 | | 7 7 1      offsets 0 2 3 3 6     out[0] = v[4] + v[0], out[2] = 0

XLA's scatter-add is one loop in order on a CPU and float atomics on a GPU. So only a CPU uses it;
other platforms add runs of RADIX neighbours, then runs of those sums, until each segment has one.

Sizes: N occurrences (padded), P segments (padded), V vectors, D dim, C occurrences of a chunk.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.cache_warming import C, warmed

RADIX = 16


def ordered_sum(vectors: jax.Array, source: jax.Array, scale: jax.Array | None, offsets: jax.Array) -> jax.Array:
    """out[p] = Σ scale[j] · vectors[source[j]] over offsets[p] ≤ j < offsets[p + 1], float32 [P, D].

    Bit-identical on every run on one platform. A source of -1 adds nothing.
    """
    return jax.lax.platform_dependent(vectors, source, scale, offsets, cpu=sum_by_scatter, default=sum_by_levels)


def segment_of(offsets: jax.Array, size: int) -> jax.Array:
    """The segment of each of `size` positions, int32; the number of segments past the last."""
    ends = jnp.zeros(size + 1, jnp.int32).at[offsets[1:]].add(1, mode="drop")
    return jnp.cumsum(ends[:size], dtype=jnp.int32)


def sum_by_scatter(vectors: jax.Array, source: jax.Array, scale: jax.Array | None, offsets: jax.Array) -> jax.Array:
    into = segment_of(offsets, source.shape[0])
    return scatter_sum(vectors, source, scale, into, offsets[-1], offsets.shape[0] - 1)


def scatter_sum(
    vectors: jax.Array, source: jax.Array, scale: jax.Array | None, into: jax.Array, count: jax.Array, segments: int
) -> jax.Array:
    """out[into[j]] += scale[j] · vectors[source[j]] for j < count in turn. On a CPU only."""
    size = min(C, source.shape[0])
    lanes = jax.tree.map(lambda x: jnp.pad(x, (0, -x.shape[0] % size)), (source, scale, into))

    def add(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        beg, out = state
        source, scale, into = jax.tree.map(lambda x: jax.lax.dynamic_slice(x, (beg,), (size,)), lanes)
        inside = (beg + jnp.arange(size, dtype=jnp.int32) < count) & (source >= 0)
        terms = weighted(vectors, warmed(jnp.where(inside, source, 0), vectors), scale)
        return beg + size, out.at[jnp.where(inside, into, segments)].add(terms, mode="drop")

    start = (jnp.int32(0), jnp.zeros((segments, vectors.shape[1]), jnp.float32))
    return jax.lax.while_loop(lambda s: s[0] < count, add, start)[1]


def weighted(vectors: jax.Array, source: jax.Array, scale: jax.Array | None) -> jax.Array:
    """scale[j] · vectors[source[j]], float32; undefined where a source is negative."""
    terms = vectors.at[source].get(mode="clip").astype(jnp.float32)
    return terms if scale is None else terms * scale[:, None]


def sum_by_levels(vectors: jax.Array, source: jax.Array, scale: jax.Array | None, offsets: jax.Array) -> jax.Array:
    longest = source.shape[0]  # no segment has more occurrences than this
    while longest > RADIX:
        offsets, begins, ends = _runs(offsets, source.shape[0])
        vectors = _add_runs(vectors, source, scale, begins, ends)
        source, scale, longest = jnp.arange(vectors.shape[0], dtype=jnp.int32), None, -(-longest // RADIX)
    return _add_runs(vectors, source, scale, offsets[:-1], offsets[1:])


def _runs(offsets: jax.Array, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Segments of runs, and the bounds of each run of at most RADIX occurrences."""
    count = (offsets[1:] - offsets[:-1] + RADIX - 1) // RADIX
    bounds = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(count, dtype=jnp.int32)])
    total = count.shape[0] + size // RADIX
    segment = segment_of(bounds, total)
    nth = jnp.arange(total, dtype=jnp.int32) - bounds.at[segment].get(mode="clip")
    begins = offsets.at[segment].get(mode="clip") + nth * RADIX
    return bounds, begins, jnp.minimum(begins + RADIX, offsets.at[segment + 1].get(mode="clip"))


def _add_runs(
    vectors: jax.Array, source: jax.Array, scale: jax.Array | None, begins: jax.Array, ends: jax.Array
) -> jax.Array:
    def add(k: int, out: jax.Array) -> jax.Array:
        at = jnp.minimum(begins + k, source.shape[0] - 1)
        named = source.at[at].get(mode="promise_in_bounds")
        term = weighted(vectors, named, None if scale is None else scale.at[at].get(mode="promise_in_bounds"))
        return out + jnp.where(((begins + k < ends) & (named >= 0))[:, None], term, 0.0)

    return jax.lax.fori_loop(0, RADIX, add, jnp.zeros((begins.shape[0], vectors.shape[1]), jnp.float32))
