"""Runs of a batch's rows: cut out, put together, counted. A batch is a dict of tensors and RaggedTensors.

Sizes: B rows, K ragged levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.ragged import RaggedTensor
from recis_core.ragged.offsets import cut_levels

Batch = dict[str, Tensor | RaggedTensor]
Shared = tuple[int, ...]  # ids of offsets: columns of one part with equal lengths have the same tensors


def rows_of(batch: Batch, begin: int, end: int) -> Batch:
    """Rows begin .. end, as views. Columns that share offsets share those of these rows."""
    cuts: dict[Shared, tuple[list[Tensor], int, int]] = {}
    return {name: _run(column, begin, end, cuts) for name, column in batch.items()}


def _run(
    column: Tensor | RaggedTensor, begin: int, end: int, cuts: dict[Shared, tuple[list[Tensor], int, int]]
) -> Tensor | RaggedTensor:
    if isinstance(column, Tensor):
        return column[begin:end]
    shared = tuple(map(id, column.offsets()))
    if shared not in cuts:
        cuts[shared] = cut_levels(column.offsets(), begin, end)
    return column.run(*cuts[shared])


def put_together(batches: Sequence[Batch]) -> Batch:
    """The rows of batches with the same features, one after another. Columns that share offsets still do."""
    if len(batches) == 1:
        return batches[0]
    joins: dict[Shared, list[Tensor]] = {}
    return {name: _together([batch[name] for batch in batches], joins) for name in batches[0]}


def _together(columns: list[Any], joins: dict[Shared, list[Tensor]]) -> Tensor | RaggedTensor:
    if isinstance(columns[0], Tensor):
        return torch.cat(columns)
    shared = tuple(id(level) for column in columns for level in column.offsets())
    joined = RaggedTensor.concatenated(columns, joins.get(shared))
    joins[shared] = joined.offsets()
    return joined


def own_memory(batch: Any) -> Any:
    """A copy that holds these rows alone: a process that gets a view of a part would be sent the whole part."""
    if isinstance(batch, Tensor | RaggedTensor):
        return batch.clone()
    if isinstance(batch, dict):
        return {name: own_memory(value) for name, value in batch.items()}
    return type(batch)(map(own_memory, batch)) if isinstance(batch, list | tuple) else batch


def ids_by_row(batch: Batch, columns: Sequence[str]) -> np.ndarray:
    """int64 [B]: how many values each row has in these columns together."""
    return np.stack([_row_lengths(batch[name]) for name in columns]).sum(0)


def _row_lengths(column: Tensor | RaggedTensor) -> np.ndarray:
    if isinstance(column, Tensor):
        return np.full(len(column), column[:1].numel() if len(column) else 0, np.int64)
    outer, *inner = column.offsets()
    edges = outer
    for offsets in inner:
        edges = offsets[edges]
    return edges.diff().numpy()
