"""The JAX backend's step at the shapes of a real table, for tests that compile and do not run.

Sizes: N ids, B bags, R rows, D dim, T logical tables.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from recis_core.backends.jax_backend import embed
from recis_core.backends.jax_backend.gradient import KeyedGradient
from recis_core.backends.jax_backend.loops import Loops
from recis_core.backends.jax_backend.seek import Manner
from recis_core.backends.jax_backend.state import constants_of, empty_index, row_capacity
from recis_core.backends.spec import TableSpec
from recis_core.pallas_kernels.kernel import shape

N, B, D, T = 65_536, 8_192, 64, 2
f32, i32, u32 = (partial(shape, dtype) for dtype in ("float32", "int32", "uint32"))


def table(rows: int) -> tuple[Any, Any, Any, Any]:
    """(index, weights, slots, constants) of a table that has room for `rows`, as shapes."""
    spec = TableSpec(dim=D, uids=tuple(range(T)), rows=rows)
    capacity = row_capacity(spec, spec.buckets)
    index = jax.eval_shape(lambda: empty_index(spec.buckets, capacity, None))
    constants = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), constants_of(spec, jax.devices("cpu")[0])
    )
    return index, f32(capacity, D), (f32(capacity, D), f32(capacity, D)), constants


def plan(loops: Loops) -> embed.Plan:
    index_plan = embed.IndexPlan(Manner(insert=True, touch=True, evict=False, counts=False), (N,), T)
    pooling = embed.Pooling("mean", None, N, weights_need_grad=False)
    return embed.Plan(index_plan, (pooling,), unknown_initial=False, learns=True, slot_initials=(0.0, 0.0), loops=loops)


def bags() -> tuple[embed.Bags, ...]:
    return (embed.Bags(i32(B + 1), f32(N)),)


def embed_shapes(rows: int) -> tuple[Any, ...]:
    """Arguments of embed.embed_call; it may write to the first three."""
    return (*table(rows), u32(N, 2), i32(2 + 1 + 2 * T), bags())


def embed_grad_shapes() -> tuple[Any, ...]:
    return embed.Kept(u32(N), u32(N), i32(N), i32(N), i32(N), i32(N + 1), i32(), None), bags(), (f32(B, D),)


def update_shapes(rows: int) -> tuple[Any, ...]:
    """Arguments of stages.update under Adam; it may write to the first two."""
    _, weights, slots, constants = table(rows)
    gradient = KeyedGradient(u32(N), u32(N), i32(N), i32(N), f32(N, D), i32(N), i32())
    return weights, slots, gradient, constants, f32(T, 7), f32(), i32(T)


def bytes_of(arrays: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arrays))
