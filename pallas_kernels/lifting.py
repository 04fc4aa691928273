"""Weights of a bag brought to about 1 by a power of two, so that no divisor under- or overflows.

A bag's lift is 2^(126 − E) of its largest |weight|'s exponent field E, kept in 1 … 252: that weight comes into
[½, 1), or up to 4 where it is above 2¹²⁶. Scaling is exact, so that pooling gives the bits that it gives without.
All by integers, for XLA and Triton read float32 subnormals as zeros.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

INFINITE = 0x7F800000  # bits of |weight| from here on are inf or NaN
LEAST = 2.0**-126  # the least normal number: a smaller divisor counts as 0


def size_bits(weights: jax.Array) -> jax.Array:
    """int32 in the order of |weight|; NaN last."""
    return jax.lax.bitcast_convert_type(weights, jnp.int32) & jnp.int32(0x7FFFFFFF)


def lift_of(top: jax.Array) -> jax.Array:
    """float32 power of two, of the largest size_bits of a bag; 0 for an empty one."""
    exponent = jnp.minimum(jnp.maximum(top >> 23, 1), 252)
    return jax.lax.bitcast_convert_type((253 - exponent) << 23, jnp.float32)


def lifted(weights: jax.Array, lift: jax.Array) -> jax.Array:
    """weights · lift; subnormal weights, too."""
    bits, size = jax.lax.bitcast_convert_type(weights, jnp.int32), size_bits(weights)
    whole = (size & 0x7FFFFF).astype(jnp.float32) * jnp.float32(2.0**-24)  # |weight| · 2¹²⁵ of a subnormal
    subnormal = jnp.where(bits < 0, -whole, whole) * (lift * jnp.float32(2.0**-125))
    return jnp.where(size < 0x800000, subnormal, weights * lift)


def inverse(divisor: jax.Array, top: jax.Array | None) -> jax.Array:
    """1 / divisor, 0 where the divisor counts as 0; NaN where a weight is inf or NaN. top: largest size_bits."""
    counts = jnp.abs(divisor) >= LEAST
    inverse = jnp.where(counts, 1.0 / jnp.where(counts, divisor, 1.0), 0.0)
    return inverse if top is None else jnp.where(top < INFINITE, inverse, jnp.nan)
