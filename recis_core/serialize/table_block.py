"""Rows of one logical table on their way into or out of a file."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class TableBlock:
    """N rows of one logical table, on the CPU.

    ids: int64 [N], as the user looks them up, each once. rows: [N, D], the weights in the table's dtype.
    slots: {name: [N, width]}, the optimizer's, by the names that HashTable.slot_group() has.
    marks: {name: [N]}, what eviction and caches keep of a row, by the names that a Snapshot has (scores, stamps).
    """

    ids: Tensor
    rows: Tensor
    slots: dict[str, Tensor] = field(default_factory=dict)
    marks: dict[str, Tensor] = field(default_factory=dict)
