"""Gradients by unique key, between backward and the optimizer step.

Sizes: N occurrences (padded), P keys (padded), V vectors, D dim.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.distinct import number_rows
from recis_core.backends.jax_backend.loops import Loops
from recis_core.backends.jax_backend.ordered_sum import segment_of


class KeyedGradient(NamedTuple):
    """The first `count` lines; rows are distinct, or -1 for keys without one."""

    lo: jax.Array  # uint32 [P]
    hi: jax.Array  # uint32 [P]
    ordinals: jax.Array  # int32 [P]
    rows: jax.Array  # int32 [P]
    values: jax.Array  # float32 [P, D]
    counts: jax.Array  # int32 [P], occurrences
    count: jax.Array  # int32 []


class Terms(NamedTuple):
    """Occurrence by occurrence, scale[i] · vectors[source[i]]; source -1 adds nothing."""

    vectors: jax.Array  # float32 [V, D]
    source: jax.Array  # int32 [N]
    scale: jax.Array | None  # float32 [N]


def sum_in_order(terms: Terms, order: jax.Array, offsets: jax.Array, count: jax.Array, loops: Loops) -> jax.Array:
    """float32 [P, D]: the terms of order[offsets[p] : offsets[p + 1]] for each p."""
    source = terms.source.at[order].get(mode="clip")
    scale = None if terms.scale is None else terms.scale.at[order].get(mode="clip")
    return loops.segment_sum(terms.vectors, source, scale, offsets, count)


def combine(gradients: tuple[KeyedGradient, ...], loops: Loops) -> KeyedGradient:
    """Sum by row in the order given; keys without a row are dropped."""
    lo, hi, ordinals, _, values, counts, _ = (jnp.concatenate(x) for x in zip(*map(_as_lines, gradients), strict=True))
    rows = jnp.concatenate([_known_rows(g) for g in gradients])
    numbered = number_rows(rows)
    position = jnp.arange(rows.shape[0], dtype=jnp.int32)
    sums = sum_in_order(Terms(values, position, None), numbered.order, numbered.offsets, numbered.count, loops)
    segment = segment_of(numbered.offsets, rows.shape[0])
    occurrences = jnp.zeros_like(rows).at[segment].add(counts.at[numbered.order].get(mode="clip"), mode="drop")
    lo, hi, ordinals, rows = (x.at[numbered.first].get(mode="clip") for x in (lo, hi, ordinals, rows))
    rows = jnp.where(position < numbered.count, rows, -1)
    return KeyedGradient(lo, hi, ordinals, rows, sums, occurrences, numbered.count)


def _as_lines(g: KeyedGradient) -> KeyedGradient:
    return g._replace(count=g.count[None])


def _known_rows(g: KeyedGradient) -> jax.Array:
    return jnp.where(jnp.arange(g.rows.shape[0], dtype=jnp.int32) < g.count, g.rows, -1)


def by_occurrence(g: KeyedGradient) -> KeyedGradient:
    """The mean over each key's occurrences."""
    return g._replace(values=g.values / jnp.maximum(g.counts, 1)[:, None])


def measure(g: KeyedGradient) -> tuple[jax.Array, jax.Array]:
    """(Σ values² as float64, whether all are finite), over the real keys."""
    size = min(4096, g.rows.shape[0])  # every P is 64·2^k or a sum of such: slices that would run over move back
    with jax.enable_x64(True):

        def add(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            beg, total, finite = state
            at = jnp.minimum(beg, jnp.int32(g.rows.shape[0] - size))
            chunk = jax.lax.dynamic_slice_in_dim(g.values, at, size)
            line = at + jnp.arange(size, dtype=jnp.int32)
            inside = ((line >= beg) & (line < g.count))[:, None]
            wide = jnp.where(inside, chunk, 0).astype(jnp.float64)
            return beg + jnp.int32(size), total + (wide * wide).sum(), finite & jnp.isfinite(wide).all()

        start = (jnp.int32(0), jnp.float64(0), jnp.array(True))
        return jax.lax.while_loop(lambda s: s[0] < g.count, add, start)[1:]
