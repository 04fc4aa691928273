"""What a Saver writes: one block for each slot of a table, one for each tensor.

Sizes: n rows of this rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from recis_core.compat.recis.nn.modules.hashtable_impl import HashtableImpl


@dataclass(frozen=True)
class WriteBlock:
    """table, slot: of a table's block; a tensor's has neither."""

    name: str
    values: Tensor
    table: str = ""
    slot: str = ""

    def tensor_name(self) -> str:
        """ "table@slot", or the tensor's name."""
        return self.name


def blocks_of(hashtables: Mapping[str, HashtableImpl], tensors: Mapping[str, Tensor]) -> list[WriteBlock]:
    """The rows of this rank, and the tensors."""
    impls = {id(impl): impl for impl in hashtables.values()}
    of_tables = [
        WriteBlock(f"{table}@{slot}", values, table, slot)
        for impl in impls.values()
        for table, slots in table_slots(impl).items()
        for slot, values in slots.items()
    ]
    return of_tables + [WriteBlock(name, tensor.detach().cpu()) for name, tensor in tensors.items()]


def table_slots(impl: HashtableImpl) -> dict[str, dict[str, Tensor]]:
    """{child: {slot: values [n, …]}} by RecIS's names; optimizers' slots in the table's dtype."""
    snapshot = impl.physical.export()
    marks = impl.physical.storage.marks() if impl.step_filter is not None else None
    found: dict[str, dict[str, Tensor]] = {}
    for child, table in impl.tables.items():
        mine = snapshot.tables == table.ordinal
        slots = {"id": snapshot.ids[mine], "embedding": snapshot.weights[mine]}
        if marks is not None and impl.step_filter is not None:
            slots[impl.step_filter.slot_name] = impl.step_filter.clock.of(marks.stamps)[mine][:, None]
        for ours, theirs in impl.optimizer_slots().items():
            slots[theirs] = snapshot.slots[ours][mine].to(snapshot.weights.dtype)
        found[child] = slots
    return found


def by_table(blocks: Iterable[WriteBlock]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """({table: {slot: values}}, {tensor: value})"""
    tables: dict[str, dict[str, Tensor]] = {}
    tensors: dict[str, Any] = {}
    for block in blocks:
        if block.table:
            tables.setdefault(block.table, {})[block.slot] = block.values
        else:
            tensors[block.name] = block.values
    return tables, tensors
