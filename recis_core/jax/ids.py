"""64-bit ids where JAX has 32-bit integers: each as two words.

Without x64 JAX cuts int64 arrays to int32 in silence, when it takes them in and at each jit. So ids cross as uint32
[..., 2], low word first, and integers that may have been cut are refused.

Sizes: N ids.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from recis_core.backends.jax_backend.ladder import rung
from recis_core.bridge.dlpack import ids_to_jax
from recis_core.nn.id_input import as_ids


def words(ids: Any) -> jax.Array:
    """Ids as uint32 [..., 2], their low and high words, to give to a jitted step.

    Args:
      ids: integers of any width in a NumPy array, a torch tensor or a list; or a JAX array of int64, under x64. A JAX array
        of uint32 [..., 2] holds words already, and stays as it is.

    Raises:
      TypeError: not integers; or a JAX array of a narrower integer, which may be 64-bit ids that JAX has cut.
    """
    if isinstance(ids, jax.Array):
        return _of_jax(ids)
    if isinstance(ids, list | tuple):
        ids = np.asarray(ids, np.int64 if len(ids) == 0 else None)
    wide = as_ids(ids, "ids")
    if wide.device.type != "cpu":
        return ids_to_jax(wide.contiguous()).reshape(*wide.shape, 2)
    return jnp.asarray(np.ascontiguousarray(wide.numpy()).view(np.uint32).reshape(*wide.shape, 2))


def words_of_int32(ids: jax.Array) -> jax.Array:
    """Words of a JAX array of int32 ids that were never wider, with their signs.

    Raises:
      TypeError: not a JAX array of int32.
    """
    if not isinstance(ids, jax.Array) or ids.dtype != jnp.int32:
        raise TypeError(f"words_of_int32 takes a jax.Array of int32; got {_kind(ids)}. Other ids go by words(ids).")
    low = jax.lax.bitcast_convert_type(ids, jnp.uint32)
    return jnp.stack([low, jax.lax.bitcast_convert_type(ids >> 31, jnp.uint32)], -1)


def padded(ids: Any, size: int | None = None) -> tuple[jax.Array, jax.Array]:
    """(words uint32 [size, 2], valid bool [size]) of ids [N], so that batches of many lengths share few programs.

    size: None is the next power of two, at least 64.

    Raises:
      ValueError: ids are not [N], or more than size.
    """
    split = np.asarray(words(ids))
    if split.ndim != 2:
        raise ValueError(f"ids to pad must be [N]; got {list(split.shape[:-1])}.")
    size = rung(len(split)) if size is None else size
    if len(split) > size:
        raise ValueError(f"size must hold {len(split)} ids; got {size}.")
    out = np.zeros((size, 2), np.uint32)
    out[: len(split)] = split
    return jnp.asarray(out), jnp.asarray(np.arange(size) < len(split))


def int64_of(split: jax.Array) -> np.ndarray:
    """int64 [...] ids on the host, of their words."""
    return np.ascontiguousarray(np.asarray(split)).view(np.int64)[..., 0]


def _of_jax(ids: jax.Array) -> jax.Array:
    if ids.dtype == jnp.uint32 and ids.ndim > 0 and ids.shape[-1] == 2:
        return ids
    if ids.dtype in (np.int64, np.uint64):
        return jax.lax.bitcast_convert_type(ids, jnp.uint32)
    raise TypeError(
        f"ids in JAX must be words, uint32 [..., 2], or int64; got {_kind(ids)}. Without x64 JAX cuts 64-bit ids to 32 bits "
        "in silence, so call words(ids) on the NumPy array or torch tensor before it goes into JAX or into a jitted "
        "function. Ids that were never wider than int32: words_of_int32(ids)."
    )


def _kind(value: Any) -> str:
    if isinstance(value, jax.Array | np.ndarray | torch.Tensor):
        return f"{type(value).__module__.split('.')[0]} {value.dtype} {list(value.shape)}"
    return type(value).__name__
