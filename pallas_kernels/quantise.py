"""Rows to few bits and back: int8, int4, fp8 with a scale a row, bfloat16 without; rounding errors go to a residual.

Reads    U rows of D float32, twice that with a residual; back, the codes and 4 bytes a row.
Writes   the codes, 4 bytes a row of scale, and U rows of D float32 of residual.
Ceiling  memory bandwidth over 4·U·D, or 12·U·D with a residual, and the codes.

Sizes: U rows, D dim.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.codes import CODES, check_codes, code_columns, decoded, encoded, scale_of
from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.operands import check_dtype, check_shape
from recis_core.pallas_kernels.tuning import RowConfig, code_config, width

Ref = Any


class Quantised(NamedTuple):
    codes: jax.Array  # [U, D] in the code's dtype; int4: uint8 [U, ⌈D/2⌉], column 2j in the low half of byte j
    scale: jax.Array | None  # float32 [U]; None for bfloat16
    residual: jax.Array | None  # float32 [U, D], what the codes do not say; None where none came in


def quantise(
    values: jax.Array,
    residual: jax.Array | None = None,
    *,
    dtype: str,
    config: RowConfig | None = None,
    interpret: bool = False,
) -> Quantised:
    """Encode x = values + residual in one pass, and keep x − decoded(x) as the next residual (error feedback).

    A row's scale is its largest |x| over the code's largest number; codes are rounded to nearest, half to even.
    A row of zeros has scale 0. A row that holds inf or NaN has scale NaN, so that all of it decodes to NaN, and
    residual 0. bfloat16 keeps inf and NaN, with residual 0 there.

    Args:
      values: [U, D] float32.
      residual: [U, D] float32, or None.
      dtype: int8, int4, float8_e4m3fn, float8_e5m2 or bfloat16.

    Raises:
      TypeError, ValueError: a dtype or a shape is wrong.

    Error feedback: Seide et al. 2014, 1-bit SGD; Karimireddy et al. 2019, arXiv:1901.09847.
    """
    check_codes(dtype)
    check_shape("values", values, (None, None))
    check_dtype("values", values, ("float32",))
    if residual is not None:
        check_shape("residual", residual, values.shape)
        check_dtype("residual", residual, ("float32",))
    rows, dim = values.shape
    out = Quantised(
        jax.ShapeDtypeStruct((rows, code_columns(dtype, dim)), CODES[dtype].stored),
        jax.ShapeDtypeStruct((rows,), jnp.float32) if CODES[dtype].largest else None,
        None if residual is None else jax.ShapeDtypeStruct((rows, dim), jnp.float32),
    )
    if rows == 0:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), out)
    config = config or code_config(dim)
    return launch(
        partial(quantise_kernel, dtype=dtype, config=config), values, residual,
        programs=-(-rows // config.rows), out_shape=(out,), num_warps=config.num_warps, interpret=interpret,
    )[0]  # fmt: skip


def quantise_kernel(values: Ref, residual: Ref | None, out: Any, *, dtype: str, config: RowConfig) -> None:
    """One program: `config.rows` rows. int4 works on even and odd columns apart, for they share bytes."""
    rows, dim = values.shape
    row = pl.program_id(0) * config.rows + jnp.arange(config.rows, dtype=jnp.int32)
    column, parts = _columns(dtype, dim)
    loaded = [_x(values, residual, row, column * len(parts) + part) for part in parts]
    divisor = scale_of([x for x, _ in loaded], dtype)
    coded = [encoded(x, divisor, dtype) for x, _ in loaded]
    byte = coded[0] if len(parts) == 1 else (coded[0] & 15) | ((coded[1] & 15) << 4)
    _store(out.codes, row, column, byte.astype(out.codes.dtype))
    if out.scale is not None:
        plt.store(out.scale.at[row], divisor, mask=row < rows)
    if out.residual is None:
        return
    for (x, at), code in zip(loaded, coded, strict=True):
        lost = jnp.where(jnp.isfinite(x), x - decoded(code, divisor, dtype), 0.0)
        _store(out.residual, row, at, jnp.where(jnp.isfinite(lost), lost, 0.0))


def dequantise(
    codes: jax.Array,
    scale: jax.Array | None,
    *,
    dtype: str,
    dim: int,
    config: RowConfig | None = None,
    interpret: bool = False,
) -> jax.Array:
    """float32 [U, D] of what quantise gave; D = dim.

    Raises:
      TypeError, ValueError: a dtype or a shape is wrong.
    """
    check_codes(dtype)
    check_shape("codes", codes, (None, code_columns(dtype, dim)))
    check_dtype("codes", codes, (jnp.dtype(CODES[dtype].stored).name,))
    if (scale is None) != (CODES[dtype].largest is None):
        raise ValueError(f"scale goes with every dtype but bfloat16; got dtype {dtype!r} and scale={scale}.")
    if scale is not None:
        check_shape("scale", scale, codes.shape[:1])
        check_dtype("scale", scale, ("float32",))
    out = jax.ShapeDtypeStruct((codes.shape[0], dim), jnp.float32)
    if codes.shape[0] == 0:
        return jnp.zeros(out.shape, out.dtype)
    config = config or code_config(dim)
    return launch(
        partial(dequantise_kernel, dtype=dtype, config=config), codes, scale,
        programs=-(-codes.shape[0] // config.rows), out_shape=out, num_warps=config.num_warps, interpret=interpret,
    )  # fmt: skip


def dequantise_kernel(codes: Ref, scale: Ref | None, out: Ref, *, dtype: str, config: RowConfig) -> None:
    """One program: `config.rows` rows."""
    row = pl.program_id(0) * config.rows + jnp.arange(config.rows, dtype=jnp.int32)
    here = row < out.shape[0]
    column, parts = _columns(dtype, out.shape[1])
    mask = here[:, None] & (column < codes.shape[1])[None, :]
    zero = 0 if jnp.issubdtype(codes.dtype, jnp.integer) else 0.0  # Triton casts no integer to fp8
    byte = plt.load(codes.at[row[:, None], column[None, :]], mask=mask, other=zero)
    divisor = None if scale is None else plt.load(scale.at[row], mask=here, other=0.0)
    for part in parts:
        # The low four bits' sign bit to the top and back.
        code = byte if len(parts) == 1 else (byte.astype(jnp.int32) << (28 - 4 * part)) >> 28
        _store(out, row, column * len(parts) + part, decoded(code, divisor, dtype))


def _columns(dtype: str, dim: int) -> tuple[jax.Array, tuple[int, ...]]:
    """Columns of the codes, and which of their values each holds."""
    if dtype != "int4":
        return jnp.arange(width(dim), dtype=jnp.int32), (0,)
    return jnp.arange(max(1, width(dim) // 2), dtype=jnp.int32), (0, 1)


def _x(values: Ref, residual: Ref | None, row: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(values + residual at these columns, the columns)."""
    mask = (row < values.shape[0])[:, None] & (column < values.shape[1])[None, :]
    x = plt.load(values.at[row[:, None], column[None, :]], mask=mask, other=0.0)
    if residual is not None:
        x = x + plt.load(residual.at[row[:, None], column[None, :]], mask=mask, other=0.0)
    return x, column


def _store(ref: Ref, row: jax.Array, column: jax.Array, value: jax.Array) -> None:
    mask = (row < ref.shape[0])[:, None] & (column < ref.shape[1])[None, :]
    plt.store(ref.at[row[:, None], column[None, :]], value, mask=mask)
