"""Loads of table elements as float32, from any storage dtype.

Sizes: n rows, c columns of a tile.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton as plt

Ref = Any


def load_elements(table: Ref, dtype: Any, row: jax.Array, column: jax.Array, mask: jax.Array) -> jax.Array:
    """float32 [n, c] of rows [n] and columns [c], 0 outside mask [n, c].

    table: as operands.stored gave it; dtype: what it was before.
    """
    if table.dtype == dtype:
        zero = 0.0 if jnp.issubdtype(dtype, jnp.floating) else 0  # Triton casts no integer to fp8
        return plt.load(table.at[row[:, None], column[None, :]], mask=mask, other=zero).astype(jnp.float32)
    # Two one-byte columns a word: each word is loaded for both, the second time from L1.
    words = plt.load(table.at[row[:, None], (column >> 1)[None, :]], mask=mask, other=0).astype(jnp.int32)
    byte = ((words >> ((column & 1) << 3)[None, :]) & 0xFF).astype(jnp.uint8)
    return jax.lax.bitcast_convert_type(byte, dtype).astype(jnp.float32)
