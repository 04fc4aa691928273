"""Sum weighted rows over sorted segments, a long one in two phases, so that a hot segment is no straggler.

A segment longer than SUM_CHUNK is cut from its start into runs of that many: phase 1 sums each into a fp32
partial, phase 2 adds them in order. A segment of 6,500 is 26 programs' work, then 26 additions. A short one,
and almost all are, goes to its result directly.

    segments  0 0 0 … 0 | 1 | 2 2          256 a run
    partials  ├─256─┼─44┤                  runs of segment 0
    out       ├────+────┤ ├─┤ ├──┤

Reads    N rows of D elements, 8 bytes an occurrence, 12 a segment; partials.
Writes   U rows of D fp32; at most 2·N/SUM_CHUNK partials.
Ceiling  memory bandwidth over (N + U)·D·4 bytes; N repeats few source rows when pooled, mostly from L2.

Sizes: N occurrences, U segments, M source rows, D dim, P partials.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.elements import load_elements
from recis_core.pallas_kernels.gather_pool import load_id, pool_runs, sum_runs
from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.operands import FLOATS, check_dtype, check_shape
from recis_core.pallas_kernels.tuning import PoolConfig, pool_config, width

# placement.SUM_CHUNK, a constant of the table format; this package knows no tables, and a test compares the two.
SUM_CHUNK = 256

Ref = Any


class Segments(NamedTuple):
    """Occurrences sorted by segment; segment u is offsets[u] ≤ i < offsets[u + 1]."""

    sources: jax.Array  # int32 [N], rows of values; -1 adds nothing
    offsets: jax.Array  # int32 [U + 1], non-decreasing; what lies past offsets[U] is padding and costs nothing
    weights: jax.Array | None = None  # float32 [N]


class Terms(NamedTuple):
    """What phase 2 adds up: occurrences, or partials for segments that have some."""

    segments: Segments
    values: jax.Array  # [M, D]
    first: jax.Array  # int32 [U], partials of each segment
    last: jax.Array  # int32 [U]; first where it is short
    partials: jax.Array | None  # float32 [P, D]; None where no segment can be long


def segment_sum(
    values: jax.Array,
    sources: jax.Array,
    offsets: jax.Array,
    weights: jax.Array | None = None,
    *,
    config: PoolConfig | None = None,
    interpret: bool = False,
) -> jax.Array:
    """Sum the rows of `values` that each segment's occurrences name.

    out[u] = Σ weights[i] · values[sources[i]]   over offsets[u] ≤ i < offsets[u + 1]

    The gradient of pooling to unique rows: occurrences sorted by unique row, `sources` their bags, `values` the
    bags' gradients, `weights` the occurrence's weight over its bag's divisor.

    Args:
      values: [M, D] float32, bfloat16 or float16.
      sources: [N] int32; -1 adds nothing.
      offsets: [U + 1] integers, non-decreasing; occurrences past offsets[U] are padding and cost nothing.
      weights: [N] float32, or None for all ones.

    Returns:
      [U, D] float32; partials of SUM_CHUNK occurrences in order, then the partials in order: bit-identical on every run
      and for every config. An empty segment gives zeros.

    Raises:
      TypeError, ValueError: a dtype or a shape is wrong.
    """
    segments = Segments(sources, offsets, weights)
    check_segments(values, segments)
    count, dim = offsets.shape[0] - 1, values.shape[1]
    if 0 in (count, sources.shape[0], values.shape[0]):
        return jnp.zeros((count, dim), jnp.float32)
    config = config or pool_config(dim)
    return launch(
        partial(segment_kernel, config=config), phase_1(values, segments, config, interpret),
        programs=-(-count // config.bags), out_shape=jax.ShapeDtypeStruct((count, dim), jnp.float32),
        num_warps=config.num_warps, interpret=interpret,
    )  # fmt: skip


def phase_1(values: jax.Array, segments: Segments, config: PoolConfig, interpret: bool) -> Terms:
    """Sum the runs of long segments; at most two for each SUM_CHUNK occurrences, and that many are made."""
    segments = segments._replace(offsets=segments.offsets.astype(jnp.int32))
    lengths = segments.offsets[1:] - segments.offsets[:-1]
    counts = jnp.where(lengths > SUM_CHUNK, (lengths + SUM_CHUNK - 1) // SUM_CHUNK, 0)
    last = jnp.cumsum(counts, dtype=jnp.int32)
    first, most = last - counts, 2 * (segments.sources.shape[0] // SUM_CHUNK)
    if most == 0:
        return Terms(segments, values, first, last, None)
    begins, ends = _long_runs(segments.offsets, first, last, most)
    sources, weights = segments.sources, segments.weights
    partials = pool_runs(values, sources, begins, ends, weights, config=config, interpret=interpret)
    return Terms(segments, values, first, last, partials)


def _long_runs(offsets: jax.Array, first: jax.Array, last: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """Where each partial's occurrences begin and end, int32 [most] both; empty past the last."""
    nth = jnp.arange(most, dtype=jnp.int32)
    # Unrolled: on a GPU the default search is a loop of tiny kernels.
    owner = jnp.searchsorted(last, nth, side="right", method="scan_unrolled").astype(jnp.int32)
    segment = jnp.minimum(owner, last.shape[0] - 1)
    begins = offsets[segment] + (nth - first[segment]) * SUM_CHUNK
    ends = jnp.minimum(begins + SUM_CHUNK, offsets[segment + 1])
    return begins, jnp.where(owner < last.shape[0], ends, begins)


def segment_kernel(terms: Terms, out: Ref, *, config: PoolConfig) -> None:
    """One program: `config.bags` segments side by side."""
    dim = out.shape[1]
    segment = pl.program_id(0) * config.bags + jnp.arange(config.bags, dtype=jnp.int32)
    here = segment < out.shape[0]
    column = jnp.arange(width(dim), dtype=jnp.int32)
    total = phase_2(terms, segment, here, column, config.unroll)
    plt.store(out.at[segment[:, None], column[None, :]], total, mask=here[:, None] & (column < dim)[None, :])


def phase_2(terms: Any, segment: jax.Array, here: jax.Array, column: jax.Array, unroll: int) -> jax.Array:
    """float32 [segments, columns] sums of these segments, inside a kernel; terms holds references."""
    (sources, offsets, weights), values, first, last, partials = terms
    dim, columns = values.shape[1], column.shape[0]
    begin, end = (plt.load(offsets.at[at], mask=here, other=0) for at in (segment, segment + 1))
    load = partial(load_id, sources, weights, None, partial(load_elements, values, values.dtype), column, dim)
    if partials is None:
        return sum_runs(load, begin, end - begin, columns, unroll)[0]
    low, high = (plt.load(runs.at[segment], mask=here, other=0) for runs in (first, last))
    direct = sum_runs(load, begin, jnp.where(high > low, 0, end - begin), columns, unroll)[0]
    load = partial(load_id, None, None, None, partial(load_elements, partials, jnp.float32), column, dim)
    return jnp.where((high > low)[:, None], sum_runs(load, low, high - low, columns, unroll)[0], direct)


def check_segments(values: jax.Array, segments: Segments) -> None:
    sources, offsets, weights = segments
    check_shape("values", values, (None, None))
    check_dtype("values", values, FLOATS)
    check_shape("sources", sources, (None,))
    check_dtype("sources", sources, ("int32",))
    check_shape("offsets", offsets, (None,))
    check_dtype("offsets", offsets, ("int32", "int64"))
    if weights is not None:
        check_shape("weights", weights, sources.shape)
        check_dtype("weights", weights, ("float32",))
