"""Pieces of tables whose arrays lie in memory, or are mapped from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recis_core.serialize.imports.source import ROWS
from recis_core.serialize.table_block import TableBlock


@dataclass(frozen=True)
class ArrayPiece:
    """Rows [n, D] with their ids, int64 [n]; without ids they are first, first + 1, ….

    slots: {name: [n, width]}, given in float32.
    """

    where: str
    rows: Tensor
    numbers: Tensor | None = None
    slots: Mapping[str, Tensor] = field(default_factory=dict)
    first: int = 0

    def ids(self) -> Iterator[Tensor]:
        for begin in range(0, len(self.rows), ROWS):
            yield self._ids(begin, min(begin + ROWS, len(self.rows)))

    def _ids(self, begin: int, end: int) -> Tensor:
        if self.numbers is None:
            return torch.arange(self.first + begin, self.first + end)
        return self.numbers[begin:end]

    def blocks(self, rows: int) -> Iterator[TableBlock]:
        for begin in range(0, len(self.rows), rows):
            end = min(begin + rows, len(self.rows))
            slots = {name: values[begin:end].float() for name, values in self.slots.items()}
            yield TableBlock(self._ids(begin, end), self.rows[begin:end].detach(), slots)
