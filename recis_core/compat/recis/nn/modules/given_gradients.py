"""Gradients that users give by row number, beside those of backwards.

Sizes: n rows, D dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recis_core.compat.recis.nn.modules.row_numbers import RowNumbers
from recis_core.nn.hash_table import HashTable


class GivenGradients:
    """Those of rows with an id wait in their table, as a backward's; those of other rows wait here, and reach no step."""

    def __init__(self) -> None:
        self._homeless: list[tuple[Tensor, Tensor]] = []

    def accept(self, rows: RowNumbers, tables: Sequence[HashTable], index: Tensor, grad: Tensor) -> None:
        """Add grad [n, …] of row numbers int64 [n], which may repeat."""
        marks, numbers = rows.now()
        place = torch.full((max([rows.end, *(index + 1).tolist()]),), -1)
        place[numbers] = torch.arange(len(numbers))
        index, values = index.cpu(), grad.detach().reshape(len(index), -1).cpu()
        at = place[index]
        for table in tables:
            mine = at >= 0
            mine[mine.clone()] = marks.tables[at[mine]] == table.ordinal
            if bool(mine.any()):
                _give(table, marks.ids[at[mine]], values[mine])
        if bool((at < 0).any()):
            self._homeless.append((index[at < 0], values[at < 0]))

    def parts(self, rows: RowNumbers) -> list[tuple[Tensor, Tensor]]:
        """(row numbers int64 [n], values [n, D]) of all that waits, one for each backward or call."""
        rows.now()
        found = list(self._homeless)
        for gradient in rows.table.unapplied.gradients:
            _, _, ours, values = rows.table.storage.read_gradient(gradient)
            found.append((rows.numbers[ours.long().cpu()], values.cpu()))
        return found


def _give(table: HashTable, ids: Tensor, values: Tensor) -> None:
    """A gradient of ids that may repeat."""
    unique, inverse = ids.unique(return_inverse=True)
    summed = torch.zeros(len(unique), values.shape[1]).index_add_(0, inverse, values.float())
    device = table.physical.device
    table.accept_grad(table.lookup_index(unique.to(device)), summed.to(device))
