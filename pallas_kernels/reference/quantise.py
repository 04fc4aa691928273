"""See pallas_kernels.quantise. The arithmetic of an element, codes.py, is shared.

Sizes: U rows, D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.pallas_kernels.codes import CODES, code_columns, decoded, encoded, scale_of
from recis_core.pallas_kernels.quantise import Quantised


def quantise(values: jax.Array, residual: jax.Array | None = None, *, dtype: str) -> Quantised:
    """As the kernel."""
    x = values if residual is None else values + residual
    scale = scale_of([x], dtype)
    code = encoded(x, scale, dtype)
    left = None
    if residual is not None:
        lost = jnp.where(jnp.isfinite(x), x - decoded(code, scale, dtype), 0.0)
        left = jnp.where(jnp.isfinite(lost), lost, 0.0)
    return Quantised(_packed(code, dtype), scale, left)


def _packed(code: jax.Array, dtype: str) -> jax.Array:
    if dtype != "int4":
        return code.astype(CODES[dtype].stored)
    code = jnp.pad(code, ((0, 0), (0, code.shape[1] % 2)))
    return ((code[:, ::2] & 15) | ((code[:, 1::2] & 15) << 4)).astype(jnp.uint8)


def dequantise(codes: jax.Array, scale: jax.Array | None, *, dtype: str, dim: int) -> jax.Array:
    """As the kernel."""
    if dtype == "int4":
        byte = codes.astype(jnp.int32)
        pairs = jnp.stack([(byte << 28) >> 28, (byte << 24) >> 28], 2)
        codes = pairs.reshape(codes.shape[0], 2 * code_columns(dtype, dim))[:, :dim]
    return decoded(codes, scale, dtype)
