"""Take out the rows of largest norm; the others are the next residual.

Reads    U rows of D float32 twice, four times with a residual.
Writes   4 bytes a row of norm; K rows of D float32, and U rows of residual.
Ceiling  memory bandwidth over 12·U·D bytes, 20·U·D with a residual; XLA's radix sort of 8 bytes a row.

Sizes: U rows, K rows to select, D dim.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.operands import check_dtype, check_shape
from recis_core.pallas_kernels.order import sorted_with_position
from recis_core.pallas_kernels.tuning import RowConfig, row_config, width

Ref = Any


class Selected(NamedTuple):
    indices: jax.Array  # int32 [K], ascending; U where there were fewer than K rows
    rows: jax.Array  # float32 [K, D], zeros where there were fewer
    residual: jax.Array  # float32 [U, D], zeros where a row was selected


def select_rows(
    values: jax.Array,
    residual: jax.Array | None = None,
    count: jax.Array | None = None,
    *,
    k: int,
    interpret: bool = False,
) -> Selected:
    """The k rows of x = values + residual with the largest L2 norm; the other rows of x are the next residual.

    Equal norms: the lower index first. A row that holds inf or NaN counts as the largest, so that it is sent and seen.

    Args:
      values: [U, D] float32.
      residual: [U, D] float32, or None.
      count: int32 [], how many rows are real; the others, padding behind, are never selected. None: all.
      k: 0 ≤ k ≤ U.

    Raises:
      TypeError, ValueError: a dtype, a shape or k is wrong.

    Top-k with error feedback: Lin et al. 2018, Deep Gradient Compression, arXiv:1712.01887.
    """
    check_selection(values, residual, count, k)
    rows, dim = values.shape
    if k == 0 or rows == 0:
        left = values if residual is None else values + residual
        return Selected(jnp.zeros(k, jnp.int32), jnp.zeros((k, dim), jnp.float32), left)
    config = row_config(dim)
    indices, slot = largest(squared_norms(values, residual, interpret=interpret), count, k)
    out = (jax.ShapeDtypeStruct((k, dim), jnp.float32), jax.ShapeDtypeStruct((rows, dim), jnp.float32))
    chosen, left = launch(
        partial(part_kernel, config=config), values, residual, slot,
        programs=-(-rows // config.rows), out_shape=out, num_warps=config.num_warps, interpret=interpret,
    )  # fmt: skip
    return Selected(indices, jnp.where((indices < rows)[:, None], chosen, jnp.float32(0)), left)


def squared_norms(values: jax.Array, residual: jax.Array | None = None, *, interpret: bool = False) -> jax.Array:
    """float32 [U] of values + residual; inf or NaN where a row is not finite, or too large."""
    rows, dim = values.shape
    config = row_config(dim)
    return launch(
        partial(norm_kernel, config=config), values, residual,
        programs=-(-rows // config.rows), out_shape=jax.ShapeDtypeStruct((rows,), jnp.float32),
        num_warps=config.num_warps, interpret=interpret,
    )  # fmt: skip


def largest(norms: jax.Array, count: jax.Array | None, k: int) -> tuple[jax.Array, jax.Array]:
    """(indices ascending int32 [K], U past the last; each row's place among them int32 [U], -1 for none)."""
    rows = norms.shape[0]
    number = jnp.arange(rows, dtype=jnp.int32)
    real = number < (rows if count is None else count)
    # The bits of numbers ≥ 0 are ordered as they are, inf above all, NaN above inf.
    bits = jax.lax.bitcast_convert_type(jnp.where(jnp.isnan(norms), jnp.float32(jnp.nan), norms), jnp.uint32)
    _, by_norm = sorted_with_position(jnp.where(real, ~(bits & jnp.uint32(0x7FFFFFFF)), jnp.uint32(0xFFFFFFFF)))
    top = by_norm[:k]
    indices = jnp.sort(jnp.where(real[top], top, rows))
    slot = jnp.full(rows, -1, jnp.int32).at[indices].set(jnp.arange(k, dtype=jnp.int32), mode="drop")
    return indices, slot


def norm_kernel(values: Ref, residual: Ref | None, out: Ref, *, config: RowConfig) -> None:
    """One program: `config.rows` squared norms."""
    row, _, _, x = _x(values, residual, config)
    plt.store(out.at[row], squared_norm(x), mask=row < out.shape[0])


def squared_norm(x: jax.Array) -> jax.Array:
    """float32 [rows] of [rows, a power of two columns]: half added to half, the same bits from every compiler.

    Each half is read as a sum with one nonzero term, for Triton cannot slice values. XLA would merge sums that follow
    each other into one, in another order.
    """
    total, half = square(x), jnp.arange(2, dtype=jnp.int32)[None, :, None]
    while total.shape[1] > 1:
        both = total.reshape(x.shape[0], 2, total.shape[1] // 2)
        total = jnp.sum(jnp.where(half == 0, both, 0.0), axis=1) + jnp.sum(jnp.where(half == 1, both, 0.0), axis=1)
    return total.reshape(x.shape[0])


def square(x: jax.Array) -> jax.Array:
    """x² by two halves of 12 bits, whose products are exact: a fused multiply-add rounds as any other.

    Halves below 2⁻⁶³, whose squares some machines flush, count as zeros.
    """
    high = jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, jnp.int32) & -(1 << 12), jnp.float32)
    low = _or_zero(x - high)
    high = _or_zero(high)
    return high * high + (2 * high * low + low * low)


def _or_zero(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(x) < 2.0**-63, 0.0, x)


def part_kernel(values: Ref, residual: Ref | None, slot: Ref, chosen: Ref, left: Ref, *, config: RowConfig) -> None:
    """One program: `config.rows` rows, each to where it belongs."""
    row, column, mask, x = _x(values, residual, config)
    place = plt.load(slot.at[row], mask=row < left.shape[0], other=-1)
    taken = (place >= 0)[:, None]
    into = jnp.where(place >= 0, place, chosen.shape[0])
    plt.store(chosen.at[into[:, None], column[None, :]], x, mask=mask & taken)
    plt.store(left.at[row[:, None], column[None, :]], jnp.where(taken, 0.0, x), mask=mask)


def _x(values: Ref, residual: Ref | None, config: RowConfig) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(rows, columns, which are real, values + residual) of this program."""
    rows, dim = values.shape
    row = pl.program_id(0) * config.rows + jnp.arange(config.rows, dtype=jnp.int32)
    column = jnp.arange(width(dim), dtype=jnp.int32)
    mask = (row < rows)[:, None] & (column < dim)[None, :]
    x = plt.load(values.at[row[:, None], column[None, :]], mask=mask, other=0.0)
    if residual is not None:
        x = x + plt.load(residual.at[row[:, None], column[None, :]], mask=mask, other=0.0)
    return row, column, mask, x


def check_selection(values: jax.Array, residual: jax.Array | None, count: jax.Array | None, k: int) -> None:
    check_shape("values", values, (None, None))
    check_dtype("values", values, ("float32",))
    if residual is not None:
        check_shape("residual", residual, values.shape)
        check_dtype("residual", residual, ("float32",))
    if count is not None:
        check_shape("count", count, ())
        check_dtype("count", count, ("int32",))
    if not 0 <= k <= values.shape[0]:
        raise ValueError(f"k must lie in 0..{values.shape[0]}, the number of rows; got {k}.")
