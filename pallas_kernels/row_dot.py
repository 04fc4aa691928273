"""Dot products of table rows with gradient rows, by two row numbers each: the gradient of pooling to its weights.

A kernel and not jnp, because `(table[rows] * grad[bags]).sum(-1)` may write both gathered [N, D] copies.

Reads    N table rows of D elements, N gradient rows of D (mostly L2), 8 bytes an id.
Writes   4 bytes an id.
Ceiling  memory bandwidth over N·D table elements.

Sizes: N ids, R rows, M gradient rows, D dim.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.elements import load_elements
from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.operands import FLOATS, check_dtype, check_shape, check_table, stored
from recis_core.pallas_kernels.tuning import RowConfig, row_config, width

Ref = Any


def row_dot(
    table: jax.Array,
    rows: jax.Array,
    grad: jax.Array,
    sources: jax.Array,
    scale: jax.Array | None = None,
    *,
    interpret: bool = False,
) -> jax.Array:
    """out[i] = table[rows[i]] · grad[sources[i]], float32 [N]; 0 where either number is -1.

    Args:
      table: [R, D] float32, bfloat16 or float16; int8, or fp8 as it comes, with float32 scale [R].
      rows, sources: int32 [N].
      grad: [M, D] float32, bfloat16 or float16.

    Raises:
      TypeError, ValueError: a dtype or a shape is wrong.
    """
    _check(table, rows, grad, sources, scale)
    count, dim = rows.shape[0], table.shape[1]
    if count == 0 or table.shape[0] == 0 or grad.shape[0] == 0:
        return jnp.zeros((count,), jnp.float32)
    config = row_config(dim)
    return launch(
        partial(row_dot_kernel, dtype=table.dtype, config=config), rows, sources, scale, stored(table), grad,
        programs=-(-count // config.rows), out_shape=jax.ShapeDtypeStruct((count,), jnp.float32),
        num_warps=config.num_warps, interpret=interpret,
    )  # fmt: skip


def row_dot_kernel(
    rows: Ref, sources: Ref, scale: Ref, table: Ref, grad: Ref, out: Ref, *, dtype: Any, config: RowConfig
) -> None:
    """One program: `config.rows` products."""
    at = pl.program_id(0) * config.rows + jnp.arange(config.rows, dtype=jnp.int32)
    here = at < out.shape[0]
    row, source = (plt.load(numbers.at[at], mask=here, other=-1) for numbers in (rows, sources))
    known = (row >= 0) & (source >= 0)
    row, source = jnp.where(known, row, 0), jnp.where(known, source, 0)
    dim = grad.shape[1]
    column = jnp.arange(width(dim), dtype=jnp.int32)
    mask = known[:, None] & (column < dim)[None, :]
    left = load_elements(table, dtype, row, column, mask)
    right = load_elements(grad, grad.dtype, source, column, mask)
    product = jnp.sum(left * right, axis=1)
    if scale is not None:
        product = product * plt.load(scale.at[row], mask=known, other=0.0)
    plt.store(out.at[at], product, mask=here)


def _check(table: jax.Array, rows: jax.Array, grad: jax.Array, sources: jax.Array, scale: jax.Array | None) -> None:
    check_table(table, scale)
    check_shape("rows", rows, (None,))
    check_dtype("rows", rows, ("int32",))
    check_shape("grad", grad, (None, table.shape[1]))
    check_dtype("grad", grad, FLOATS)
    check_shape("sources", sources, rows.shape)
    check_dtype("sources", sources, ("int32",))
