"""What a call asks of a storage: ids of one table, or a dict of ids by table, flattened into one run of keys.

    {"item": [clicked [B, L, 2], shown [B, 2]], "user": [B, 2]}     ->  N = B·L + B + B keys

Sizes: N ids, D dim, L leaves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.state import Constants
from recis_core.jax.config import TableConfig
from recis_core.jax.ids import words
from recis_core.pallas_kernels.index import Keys


@dataclass(frozen=True)
class Form:
    """The static part: the tree of the ids, each leaf's shape and table."""

    tree: Any
    shapes: tuple[tuple[int, ...], ...]
    ordinals: tuple[int, ...]


class Asked(NamedTuple):
    """Keys [N] of one shard, or of all."""

    keys: Keys
    ordinals: jax.Array  # int32 [N]
    valid: jax.Array  # bool [N]


def read(config: TableConfig, ids: Any, valid: Any) -> tuple[Form, tuple[jax.Array, ...], tuple[jax.Array, ...] | None]:
    """The form of a call, its leaves' words and their masks.

    Raises:
      TypeError, ValueError: ids are no 64-bit ids, or of no table of the state; valid has another form.
    """
    leaves = jax.tree_util.tree_flatten_with_path(_by_name(config, ids), is_leaf=_is_list_of_ids)[0]
    tree = jax.tree.structure(ids, is_leaf=_is_list_of_ids)
    split = tuple(words(leaf) for _, leaf in leaves)
    shapes = tuple(leaf.shape[:-1] for leaf in split)
    if not split or not all(shapes):
        raise ValueError("ids must be arrays of at least one axis; got " + ("none." if not split else "a single id."))
    form = Form(tree, shapes, tuple(config.ordinal(path[0].key) for path, _ in leaves))
    return form, split, None if valid is None else _masks(form, valid)


def _by_name(config: TableConfig, ids: Any) -> Mapping[str, Any]:
    if isinstance(ids, Mapping):
        return dict(ids)
    if len(config.names) > 1:
        raise ValueError(
            f"the state holds tables {', '.join(config.names)}: give ids by table, {{{config.names[0]!r}: ids, …}}; "
            f"got {type(ids).__name__}."
        )
    return {config.names[0]: ids}


def _is_list_of_ids(node: Any) -> bool:
    return isinstance(node, list | tuple) and bool(node) and isinstance(node[0], int)


def _masks(form: Form, valid: Any) -> tuple[jax.Array, ...]:
    masks, tree = jax.tree.flatten(valid)
    shapes = tuple(mask.shape for mask in masks)
    if tree != form.tree or shapes != form.shapes or any(mask.dtype != bool for mask in masks):
        raise ValueError(f"valid must be bool arrays in the form of ids, {describe(form)}; got {tree} of {shapes}.")
    return tuple(masks)


def describe(form: Form) -> str:
    return f"{form.tree} of {form.shapes}"


def joined(
    config: TableConfig,
    constants: Constants,
    form: Form,
    split: tuple[jax.Array, ...],
    masks: tuple[jax.Array, ...] | None,
) -> Asked:
    """The keys of these leaves, one leaf behind the other."""
    flat = jnp.concatenate([leaf.reshape(-1, 2) for leaf in split])
    sizes = [math.prod(leaf.shape[:-1]) for leaf in split]
    ordinals = jnp.concatenate([jnp.full(n, o, jnp.int32) for n, o in zip(sizes, form.ordinals, strict=True)])
    valid = jnp.ones(flat.shape[0], bool) if masks is None else jnp.concatenate([m.reshape(-1) for m in masks])
    return Asked(Keys(flat[:, 0], flat[:, 1], constants.uids[ordinals]), ordinals, valid)


def parted(values: jax.Array, like: tuple[Any, ...], trailing: int) -> tuple[jax.Array, ...]:
    """[N, ...] cut into leaves of the leading shape of `like`'s, which have `trailing` axes more."""
    shapes = [leaf.shape[: leaf.ndim - trailing] for leaf in like]
    ends = [sum(map(math.prod, shapes[: k + 1])) for k in range(len(shapes))]
    parts = jnp.split(values, ends[:-1])
    return tuple(part.reshape(*shape, *values.shape[1:]) for part, shape in zip(parts, shapes, strict=True))


def grads_of(form: Form, grads: Any, dim: int) -> tuple[jax.Array, ...]:
    """The leaves of gradients in the form of a call's rows.

    Raises:
      ValueError: they have another form.
    """
    leaves, tree = jax.tree.flatten(grads)
    shapes = tuple(tuple(leaf.shape) for leaf in leaves)
    if tree != form.tree or shapes != tuple((*shape, dim) for shape in form.shapes):
        raise ValueError(
            f"grads must have the form of the lookup's rows, {describe(form)} with {dim} columns; got {tree} of {shapes}."
        )
    return tuple(leaf.astype(jnp.float32) for leaf in leaves)
