"""A table's slots as RecIS shows them: by row number, in blocks, with the spare rows of the last block.

`values()` are written through: a write into one of its tensors, or into a view of it, changes the table. `value()` is a copy, as
in RecIS.

Sizes: R rows with spare ones, D dim of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from recis_core.compat.recis.nn.modules.written_through import WrittenThrough


class Slot:
    """One value of every row: "embedding", a filter's step, or an optimizer's, such as "sparse_adamw_exp_avg".

    read: gives [R, …] at each look. write: sets all rows that there are from such a tensor.
    """

    def __init__(
        self, name: str, block_size: int, flat_size: int, read: Callable[[], Tensor], write: Callable[[Tensor], None]
    ) -> None:
        self._name, self._block_size, self._flat_size, self._read, self._write = (
            name,
            block_size,
            flat_size,
            read,
            write,
        )

    def name(self) -> str:
        return self._name

    def block_size(self) -> int:
        """Rows of a block."""
        return self._block_size

    def flat_size(self) -> int:
        """Numbers of a row."""
        return self._flat_size

    def value(self) -> Tensor:
        """[R, …] by row number."""
        return self._read()

    def values(self) -> list[Tensor]:
        """The rows in blocks, through which the table can be written."""
        whole = self._read()
        return [WrittenThrough.of(block, lambda: self._write(whole)) for block in whole.split(self._block_size)]


class SlotGroup:
    """All slots of a table; the embedding is the first."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = list(slots)

    def slots(self) -> list[Slot]:
        return list(self._slots)

    def slot_by_index(self, index: int) -> Slot:
        return self._slots[index]

    def slot_by_name(self, name: str) -> Slot:
        """Raises KeyError: no such slot; an optimizer's are there once it is made."""
        found = [slot for slot in self._slots if slot.name() == name]
        if not found:
            raise KeyError(f"no slot {name!r}; the table has {', '.join(slot.name() for slot in self._slots)}.")
        return found[0]


def spread(values: Tensor, numbers: Tensor, rows: int, spare: float) -> Tensor:
    """values [n, …] at their row numbers int64 [n] in [rows, …]; other rows hold `spare`."""
    out = torch.full((rows, *values.shape[1:]), spare, dtype=values.dtype)
    out[numbers] = values
    return out
