"""pool and pool_grad: pad torch tensors, run programs, cut the results.

Sizes: N ids, U rows, B bags, D dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.jax_backend import inputs
from recis_core.backends.jax_backend.embed import Bags, Pooling
from recis_core.backends.jax_backend.inputs import Crossing
from recis_core.backends.jax_backend.ladder import rung
from recis_core.backends.jax_backend.programs import Programs
from recis_core.bridge.dlpack import to_torch


def pool(
    programs: Programs, rows: Tensor, inverse: Tensor, offsets: Tensor, weights: Tensor | None = None, *,
    combiner: str = "sum", tile_len: int | None = None,
) -> Tensor:  # fmt: skip
    crossing = Crossing()
    table, numbers, bags = _padded(crossing, rows, inverse, offsets, weights)
    pooling = Pooling(combiner, tile_len, rung(len(inverse)), False)
    pooled = programs.pool(table, numbers, bags, pooling=pooling)
    crossing.done(pooled)
    count = len(inverse) if combiner == "none" else len(offsets) - 1
    return to_torch(pooled)[:count].to(rows.dtype)


def pool_grad(
    programs: Programs, grad: Tensor, rows: Tensor, inverse: Tensor, offsets: Tensor, weights: Tensor | None = None, *,
    combiner: str = "sum", tile_len: int | None = None, weights_need_grad: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    crossing = Crossing()
    table, numbers, bags = _padded(crossing, rows, inverse, offsets, weights)
    need = weights_need_grad and weights is not None
    pooling = Pooling(combiner, tile_len, rung(len(inverse)), need)
    lines = pooling.size if combiner == "none" else rung(len(offsets) - 1)
    grads = crossing.array(grad, lines, torch.float32)
    by_row, to_weights = programs.pool_grad(grads, table, numbers, bags, pooling=pooling)
    crossing.done((by_row, to_weights))
    return to_torch(by_row)[: len(rows)], None if to_weights is None else to_torch(to_weights)[: len(inverse)]


def _padded(
    crossing: Crossing, rows: Tensor, inverse: Tensor, offsets: Tensor, weights: Tensor | None
) -> tuple[object, object, Bags]:
    size = rung(len(inverse))
    table = crossing.array(rows, rung(len(rows)))
    numbers = crossing.array(inverse, size, torch.int32, fill=-1)
    return table, numbers, inputs.bags(crossing, offsets, weights, len(inverse), size, rung(len(offsets) - 1))
