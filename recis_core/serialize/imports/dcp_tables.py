"""Tables that torch.distributed.checkpoint saved, each rank its slices of rows or columns, in pieces of rows.

Sizes: n rows of a piece, D dim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from recis_core.backends.errors import StateMismatch
from recis_core.serialize.imports.array_pieces import ArrayPiece
from recis_core.serialize.imports.dcp_reader import DcpReader
from recis_core.serialize.imports.source import ROWS, StoredTable
from recis_core.serialize.imports.torchrec_keys import TableKeys, our_slots
from recis_core.serialize.table_block import TableBlock


def dcp_table(reader: DcpReader, name: str, keys: TableKeys, momentum1: str, t: int | None) -> StoredTable:
    """The table of which `keys` name the rows and the optimizer's states."""
    saved = reader.tensors[keys.weight]
    dtype, shape = saved.properties.dtype, tuple(saved.size)
    if len(shape) != 2 or not dtype.is_floating_point:
        raise StateMismatch(f"{reader.path}: {keys.weight} must be floats [n, dim]; got {dtype} {list(shape)}.")
    shapes = {state: tuple(reader.tensors[key].size) for state, key in keys.states.items() if key in reader.tensors}
    states = our_slots(shapes, *shape, momentum1)
    slots = {slot: keys.states[state] for slot, state in states.items()}
    bounds = reader.row_bounds([keys.weight, *slots.values()])
    pieces = [DcpPiece(reader, keys.weight, slots, *ends) for ends in pairwise(bounds)]
    ignored = tuple(sorted(set(keys.states) - set(states.values())))
    return StoredTable(name, shape[1], dtype, pieces, tuple(slots), shape[0], distinct=True, t=t, ignored=ignored)


@dataclass(frozen=True)
class DcpPiece:
    """Rows [begin, end) of a table, which no slice's edge divides. Memory holds them all while they are read."""

    reader: DcpReader
    weight: str
    slots: Mapping[str, str]
    begin: int
    end: int

    @property
    def where(self) -> str:
        return f"{self.reader.path}, {self.weight}, rows {self.begin} to {self.end}"

    def ids(self) -> Iterator[Tensor]:
        for first in range(self.begin, self.end, ROWS):
            yield torch.arange(first, min(first + ROWS, self.end))

    def blocks(self, rows: int) -> Iterator[TableBlock]:
        count = self.end - self.begin
        values = self.reader.read_rows(self.weight, self.begin, self.end)
        slots = {
            slot: self.reader.read_rows(key, self.begin, self.end).reshape(count, -1)
            for slot, key in self.slots.items()
        }
        yield from ArrayPiece(self.where, values, slots=slots, first=self.begin).blocks(rows)
