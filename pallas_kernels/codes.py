"""The arithmetic of rows in few bits, shared by kernels and references: x, scale ↔ code.

Sizes: U rows, c columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Code:
    """stored: dtype of the array that holds the codes. largest: the largest number a code says; None: no scale."""

    stored: Any
    largest: float | None


CODES = {
    "int8": Code(jnp.int8, 127.0),
    "int4": Code(jnp.uint8, 7.0),
    "float8_e4m3fn": Code(jnp.float8_e4m3fn, 448.0),
    "float8_e5m2": Code(jnp.float8_e5m2, 57344.0),
    "bfloat16": Code(jnp.bfloat16, None),
}
SMALLEST = (
    2.0**-63
)  # of a row's largest |x|: its square, and no part of code · scale, is below float32's normal numbers
FLOAT32_MAX = float.fromhex("0x1.fffffep127")


def check_codes(dtype: str) -> None:
    if dtype not in CODES:
        raise ValueError(f"dtype must be one of {', '.join(CODES)}; got {dtype!r}.")


def code_columns(dtype: str, dim: int) -> int:
    return -(-dim // 2) if dtype == "int4" else dim


def scale_of(parts: list[jax.Array], dtype: str) -> jax.Array | None:
    """float32 [U] of a row's columns, in parts [U, c] float32; 0 for rows below SMALLEST, NaN where one is not finite."""
    largest = CODES[dtype].largest
    if largest is None:
        return None
    top = jnp.max(jnp.abs(parts[0]), axis=1)
    odd = jnp.max(jnp.where(jnp.isfinite(parts[0]), 0, 1), axis=1)
    for part in parts[1:]:
        top = jnp.maximum(top, jnp.max(jnp.abs(part), axis=1))
        odd = jnp.maximum(odd, jnp.max(jnp.where(jnp.isfinite(part), 0, 1), axis=1))
    # Not top / largest: XLA may multiply by a rounded inverse instead; a product with a constant rounds once.
    scale = jnp.minimum(top * jnp.float32(1 / largest), _largest_scale(largest))
    return jnp.where(odd > 0, jnp.float32(jnp.nan), jnp.where(top >= SMALLEST, scale, 0.0))


def _largest_scale(largest: float) -> np.float32:
    """The largest scale whose product with every code is finite."""
    return np.nextafter(np.float32(FLOAT32_MAX / largest), np.float32(0))


def encoded(x: jax.Array, scale: jax.Array | None, dtype: str) -> jax.Array:
    """Codes of x [U, c]: int32 for int8 and int4, else the stored dtype."""
    largest = CODES[dtype].largest
    if scale is None or largest is None:
        return x.astype(CODES[dtype].stored)
    safe = jnp.where(scale > 0, scale, 1.0)[:, None]  # NaN, too, is not above 0
    ratio = jnp.where((scale > 0)[:, None], x / safe, 0.0)
    ratio = jnp.minimum(jnp.maximum(ratio, -largest), largest)
    return rounded(ratio).astype(jnp.int32) if dtype.startswith("int") else ratio.astype(CODES[dtype].stored)


def rounded(x: jax.Array) -> jax.Array:
    """To nearest, half to even, |x| ≤ 127. By one addition: Triton has no rint."""
    shift = jnp.float32(1.5 * 2**23)
    bits = jax.lax.bitcast_convert_type(x + shift, jnp.int32)  # integers, so that no compiler undoes the sum
    return (bits - jax.lax.bitcast_convert_type(jnp.full_like(x, shift), jnp.int32)).astype(jnp.float32)


def decoded(code: jax.Array, scale: jax.Array | None, dtype: str) -> jax.Array:
    """float32 [U, c]: code · scale, rounded once.

    In two exact products, for a code has 8 bits at most: so a compiler's fused multiply-add of x − decoded has the
    same bits.
    """
    value = code.astype(jnp.float32)
    if scale is None:
        return value
    bits = jax.lax.bitcast_convert_type(scale, jnp.int32)
    high = jax.lax.bitcast_convert_type(bits & jnp.int32(-(1 << 8)), jnp.float32)  # 16 of 24 bits
    return value * high[:, None] + value * (scale - high)[:, None]
