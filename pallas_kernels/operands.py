"""Checks at the kernels' doors: what was wanted, what came, the way out."""

from __future__ import annotations

import jax
import jax.numpy as jnp

FLOATS = ("float32", "bfloat16", "float16")
SCALED = ("int8", "float8_e4m3fn", "float8_e5m2")  # one byte an element; int8 always with a scale, fp8 as it comes
TABLES = FLOATS + SCALED


def check_table(table: jax.Array, scale: jax.Array | None) -> None:
    """[R, D] of a float dtype, or int8 or fp8 with a float32 [R] scale."""
    check_shape("table", table, (None, None))
    check_dtype("table", table, TABLES)
    if (table.dtype == jnp.int8) > (scale is not None):
        raise TypeError("an int8 table needs scale, float32 [R]; got scale=None.")
    if scale is not None and table.dtype.name not in SCALED:
        raise TypeError(f"scale goes with a table of {' or '.join(SCALED)}; got {table.dtype}.")
    if scale is not None:
        check_shape("scale", scale, (table.shape[0],))
        check_dtype("scale", scale, ("float32",))


def stored(table: jax.Array) -> jax.Array:
    """The table as kernels index it: itself, or pairs of one-byte columns as int16 where offsets would overflow. No copy.

    Pallas-Triton counts elements in i32 up to 4 GiB, which one-byte elements overflow from 2 GiB on.
    """
    if table.dtype.itemsize > 1 or not 2**31 < table.size <= 2**32:
        return table
    rows, dim = table.shape
    if dim % 2:
        raise ValueError(
            f"a one-byte table of 2**31 to 2**32 elements must have an even dim; got {table.shape}. Split it."
        )
    return jax.lax.bitcast_convert_type(table.reshape(rows, dim // 2, 2), jnp.int16)


def check_shape(name: str, array: jax.Array, shape: tuple[int | None, ...]) -> None:
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        wanted = tuple("any" if size is None else size for size in shape)
        raise ValueError(f"{name} must have shape {wanted}; got {array.shape}.")


def check_dtype(name: str, array: jax.Array, dtypes: tuple[str, ...]) -> None:
    if array.dtype.name not in dtypes:
        raise TypeError(f"{name} must be {' or '.join(dtypes)}; got {array.dtype}.")
