"""float32 to fewer bits by integers, to nearest even or by noise: torch_backend/rounding.py in jnp, bit for bit.

Sizes: U rows, D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.backends.row_codes import SmallFloat

EXPONENT, SIGN = np.uint32(0x7F800000), np.uint32(0x80000000)


def bits_of(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


def float_of(bits: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(bits.astype(jnp.uint32), jnp.float32)


def flushed(x: jax.Array) -> jax.Array:
    """Subnormals as zeros of their sign."""
    bits = bits_of(x)
    return float_of(jnp.where((bits & EXPONENT) > 0, bits, bits & SIGN))


def to_bfloat16(x: jax.Array, word: jax.Array | None) -> jax.Array:
    """Codes uint32 of finite x that does not overflow."""
    bits = bits_of(x)
    up = 0x7FFF + ((bits >> 16) & 1) if word is None else word >> 16
    return (bits + up) >> 16


def to_small_float(x: jax.Array, word: jax.Array | None, form: SmallFloat) -> jax.Array:
    """Codes uint32 of finite x; what is past the largest becomes the largest."""
    bits = bits_of(x)
    field = ((bits >> 23) & 255).astype(jnp.int32)
    above = field - 127 - form.least
    number = jnp.where(field > 0, (bits & 0x7FFFFF) | 0x800000, 0)
    shift = 23 - form.mantissa + jnp.maximum(-above, 0)
    number = number >> jnp.clip(shift - 31, 0, 31).astype(jnp.uint32)
    places = jnp.minimum(shift, 31).astype(jnp.uint32)
    nearest = (jnp.uint32(1) << (places - 1)) - 1 + ((number >> places) & 1)
    up = nearest if word is None else word >> (32 - places)
    # A normal number's leading bit adds one to the exponent above the least.
    code = ((number + up) >> places) + (jnp.maximum(above, 0).astype(jnp.uint32) << form.mantissa)
    sign = (bits >> 31) << (15 if form.mantissa == 10 else 7)
    return jnp.minimum(code, form.top) | sign
