"""Gather rows by number and pool them into bags, without a gathered copy.

Reads    N rows of D table elements, 4 bytes a row number, 4 a weight (8 for mean and sqrtn), 8 a bag.
Writes   B rows of D outputs.
Ceiling  memory bandwidth over (N + B)·D elements; hot rows come from L2 and lift it. At small D the
         32-byte sector is the unit: D = 1 float32 moves eight times what it uses.

Sizes: N ids, B bags, R rows, D dim, P runs (bags, or the units that tile and none are made of).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.elements import load_elements
from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.lifting import INFINITE, LEAST, lift_of, lifted, size_bits
from recis_core.pallas_kernels.operands import check_dtype, check_shape, check_table, stored
from recis_core.pallas_kernels.tuning import PoolConfig, pool_config, width

COMBINERS = ("sum", "mean", "sqrtn", "none", "tile")
Ref = Any
Load = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def gather_pool(
    table: jax.Array,
    rows: jax.Array,
    offsets: jax.Array,
    weights: jax.Array | None = None,
    scale: jax.Array | None = None,
    *,
    combiner: str = "sum",
    tile_len: int | None = None,
    out_dtype: Any = jnp.float32,
    config: PoolConfig | None = None,
    interpret: bool = False,
) -> jax.Array:
    """Pool the table rows named by `rows` into one vector per bag.

    out[b] = Σ weights[i] · table[rows[i]]   over offsets[b] ≤ i < offsets[b + 1]
    "mean" divides by Σ weights, "sqrtn" by sqrt(Σ weights²); a bag whose divisor is 0 gives zeros. Weights of any
    magnitude, subnormal ones too: a bag's are lifted first (see lifting.py), and a divisor that is below 2⁻¹²⁶
    then counts as 0. A weight that is inf or NaN makes its bag NaN.
    "none" gives the weighted rows themselves; "tile" lays a bag's first tile_len of them side by side, zeros behind.

    Args:
      table: [R, D] float32, bfloat16 or float16; or int8, whose row r stands for scale[r] · table[r]; or
        float8_e4m3fn or float8_e5m2, with a scale or without.
      rows: [N] int32. Row -1 reads as zeros, and its weight still counts in a divisor.
      offsets: [B + 1] integers, non-decreasing, from 0; ids past offsets[B] are padding and read as zeros.
      weights: [N] float32, or None for all ones.
      scale: [R] float32 with a one-byte table, else None.

    Returns:
      [B, D] (none: [N, D], tile: [B, tile_len·D]) in out_dtype. Accumulated in float32 in the order of rows,
      whatever the config: bit-identical on every run.

    Raises:
      TypeError, ValueError: a dtype, a shape or the combiner is wrong.

    As torch.nn.functional.embedding_bag. DLRM, Naumov et al. 2019, arXiv:1906.00091, §3.
    """
    _check(table, rows, offsets, weights, scale, combiner, tile_len)
    offsets = offsets.astype(jnp.int32)
    begins, ends = _runs(rows.shape[0], offsets, combiner, tile_len)
    pooled = pool_runs(
        table, rows, begins, ends, weights, scale,
        combiner=combiner if combiner in ("mean", "sqrtn") else "sum",
        out_dtype=out_dtype, config=config, interpret=interpret,
    )  # fmt: skip
    return pooled.reshape(offsets.shape[0] - 1, -1) if combiner == "tile" else pooled


def pool_runs(
    table: jax.Array,
    rows: jax.Array | None,
    begins: jax.Array,
    ends: jax.Array,
    weights: jax.Array | None = None,
    scale: jax.Array | None = None,
    *,
    combiner: str = "sum",
    out_dtype: Any = jnp.float32,
    config: PoolConfig | None = None,
    interpret: bool = False,
) -> jax.Array:
    """As gather_pool, over any runs begins[p] ≤ i < ends[p] (int32 [P]); rows None means row i itself."""
    runs, dim = begins.shape[0], table.shape[1]
    out_shape = jax.ShapeDtypeStruct((runs, dim), out_dtype)
    if runs == 0 or table.shape[0] == 0 or (rows is not None and rows.shape[0] == 0):
        return jnp.zeros(out_shape.shape, out_dtype)
    config = config or pool_config(dim)
    kernel = partial(pool_kernel, dtype=table.dtype, combiner=combiner, config=config)
    return launch(
        kernel, begins, ends, rows, weights, scale, stored(table),
        programs=-(-runs // config.bags), out_shape=out_shape, num_warps=config.num_warps, interpret=interpret,
    )  # fmt: skip


def pool_kernel(
    begins: Ref,
    ends: Ref,
    rows: Ref,
    weights: Ref,
    scale: Ref,
    table: Ref,
    out: Ref,
    *,
    dtype: Any,
    combiner: str,
    config: PoolConfig,
) -> None:
    """One program: `config.bags` runs side by side, to the end of the longest of them."""
    dim = out.shape[1]
    run = pl.program_id(0) * config.bags + jnp.arange(config.bags, dtype=jnp.int32)
    column = jnp.arange(width(dim), dtype=jnp.int32)
    begin = plt.load(begins.at[run], mask=run < out.shape[0], other=0)
    length = plt.load(ends.at[run], mask=run < out.shape[0], other=0) - begin
    lift = None if combiner == "sum" or weights is None else _lift(weights, begin, length, config.unroll)
    load = partial(load_id, rows, weights, scale, partial(load_elements, table, dtype), column, dim, lift=lift)

    total, divisor = sum_runs(load, begin, length, width(dim), config.unroll, squared=combiner == "sqrtn")
    pooled = total if combiner == "sum" else _divide(total, divisor, combiner)
    here = (run < out.shape[0])[:, None] & (column < dim)[None, :]
    plt.store(out.at[run[:, None], column[None, :]], pooled.astype(out.dtype), mask=here)


def sum_runs(
    load: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    begin: jax.Array,
    length: jax.Array,
    columns: int,
    unroll: int,
    squared: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """(Σ value [runs, columns], Σ weight or weight² [runs]) of load(begin + n, n < length) = (value, weight), n in turn."""

    def body(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # All loads before the first sum, so that they are in flight together; the sums keep the ids' order.
        nth = [k * unroll + u for u in range(unroll)]
        loaded = [load(begin + n, n < length) for n in nth]
        total, divisor = carry
        for value, weight in loaded:
            total = total + value
            divisor = divisor + (weight * weight if squared else weight)
        return total, divisor

    zeros = jnp.zeros((begin.shape[0], columns), jnp.float32), jnp.zeros(begin.shape, jnp.float32)
    return jax.lax.fori_loop(0, (jnp.max(length) + unroll - 1) // unroll, body, zeros)


def _lift(weights: Ref, begin: jax.Array, length: jax.Array, unroll: int) -> jax.Array:
    """What each run's weights are multiplied by, float32 [runs]; NaN where one is inf or NaN."""

    def body(k: jax.Array, top: jax.Array) -> jax.Array:
        nth = [k * unroll + u for u in range(unroll)]
        for size in [size_bits(plt.load(weights.at[begin + n], mask=n < length, other=0.0)) for n in nth]:
            top = jnp.maximum(top, size)
        return top

    top = jax.lax.fori_loop(0, (jnp.max(length) + unroll - 1) // unroll, body, jnp.zeros(begin.shape, jnp.int32))
    return jnp.where(top < INFINITE, lift_of(top), jnp.nan)


def load_id(
    rows: Ref, weights: Ref, scale: Ref, load: Load, column: jax.Array, dim: int, at: jax.Array, here: jax.Array,
    *, lift: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """(weighted row [bags, width], weight [bags]) of the ids at positions `at`; zeros where not `here`."""
    row = at if rows is None else plt.load(rows.at[at], mask=here, other=-1)
    weight = here.astype(jnp.float32) if weights is None else plt.load(weights.at[at], mask=here, other=0.0)
    weight = weight if lift is None else lifted(weight, lift)
    known = here & (row >= 0)
    row = jnp.where(known, row, 0)
    value = load(row, column, known[:, None] & (column < dim)[None, :])
    if scale is not None:
        value = value * plt.load(scale.at[row], mask=known, other=0.0)[:, None]
    return (value if weights is None else value * weight[:, None]), weight


def _divide(total: jax.Array, divisor: jax.Array, combiner: str) -> jax.Array:
    divisor = jnp.sqrt(divisor) if combiner == "sqrtn" else divisor
    nothing = jnp.abs(divisor) < LEAST  # not of NaN, which stays
    return jnp.where(nothing[:, None], 0.0, total / jnp.where(nothing, 1.0, divisor)[:, None])


def _runs(ids: int, offsets: jax.Array, combiner: str, tile_len: int | None) -> tuple[jax.Array, jax.Array]:
    """Where each output row's ids begin and end: bags, or runs of at most one id for none and tile."""
    if combiner == "none":
        begins = jnp.arange(ids, dtype=jnp.int32)
        return begins, jnp.minimum(begins + 1, offsets[-1])
    if combiner == "tile":
        begins = offsets[:-1, None] + jnp.arange(tile_len, dtype=jnp.int32)
        return begins.reshape(-1), jnp.minimum(begins + 1, offsets[1:, None]).reshape(-1)
    return offsets[:-1], offsets[1:]


def _check(
    table: jax.Array,
    rows: jax.Array,
    offsets: jax.Array,
    weights: jax.Array | None,
    scale: jax.Array | None,
    combiner: str,
    tile_len: int | None,
) -> None:
    check_table(table, scale)
    check_shape("rows", rows, (None,))
    check_dtype("rows", rows, ("int32",))
    check_shape("offsets", offsets, (None,))
    check_dtype("offsets", offsets, ("int32", "int64"))
    if weights is not None:
        check_shape("weights", weights, rows.shape)
        check_dtype("weights", weights, ("float32",))
    if combiner not in COMBINERS:
        raise ValueError(f"combiner must be one of {', '.join(COMBINERS)}; got {combiner!r}.")
    if (combiner == "tile") != (tile_len is not None and tile_len > 0):
        raise ValueError(f"tile_len goes with combiner='tile' and is at least 1; got {combiner!r} and {tile_len}.")
