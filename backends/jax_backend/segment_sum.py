"""The gradient's sum by row: the XLA form of loops.SegmentSum.

Sizes: N occurrences (padded), P segments (padded), D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends import placement
from recis_core.backends.jax_backend.ordered_sum import scatter_sum, segment_of, sum_by_levels

CHUNK = placement.SUM_CHUNK


def segment_sum(
    vectors: jax.Array, source: jax.Array, scale: jax.Array | None, offsets: jax.Array, count: jax.Array
) -> jax.Array:
    """See loops.SegmentSum."""
    return jax.lax.platform_dependent(
        vectors, source, scale, offsets, count, cpu=_by_chunks, default=lambda v, s, w, o, _: sum_by_levels(v, s, w, o)
    )


def _by_chunks(
    vectors: jax.Array, source: jax.Array, scale: jax.Array | None, offsets: jax.Array, count: jax.Array
) -> jax.Array:
    """Sum each segment's first chunk into its row, further chunks into rows past `count`, and add these to the first.

    There are enough rows past `count`: a segment with k further chunks has over 256·k occurrences, and so leaves more
    than k rows unused.
    """
    size, segments = source.shape[0], offsets.shape[0] - 1
    more = jnp.maximum((offsets[1:] - offsets[:-1] + CHUNK - 1) // CHUNK - 1, 0)
    more_end = jnp.cumsum(more, dtype=jnp.int32)
    segment = jnp.minimum(segment_of(offsets, size), segments - 1)
    nth = (jnp.arange(size, dtype=jnp.int32) - offsets.at[segment].get(mode="promise_in_bounds")) // CHUNK
    spare = count + (more_end - more).at[segment].get(mode="promise_in_bounds") + nth - 1
    sums = scatter_sum(vectors, source, scale, jnp.where(nth == 0, segment, spare), offsets[-1], segments)
    return _add_further_chunks(sums, more_end, count, size // CHUNK + 1)


def _add_further_chunks(sums: jax.Array, more_end: jax.Array, count: jax.Array, most: int) -> jax.Array:
    """Row count + x holds the x-th further chunk; most: an upper bound of their number. Few segments have any."""
    owner = segment_of(jnp.concatenate([jnp.zeros(1, jnp.int32), more_end]), most)
    nth = jnp.arange(most, dtype=jnp.int32)
    further = sums.at[count + nth].get(mode="clip")
    owner = jnp.where(nth < more_end[-1], owner, sums.shape[0])
    return sums.at[owner].add(further, mode="drop")
