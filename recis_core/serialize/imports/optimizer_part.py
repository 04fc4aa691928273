"""The optimizer's part of a checkpoint that is made of another format: t by table, and which kind of optimizer it was.

Learning rates and other numbers are not in those formats: a run that goes on from it keeps its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from recis_core.serialize.imports.source import StoredTable
from recis_core.serialize.table_block import TableBlock


@dataclass
class SlotWidths:
    """Columns of each table's slots, known when its first block is read."""

    by_table: dict[str, dict[str, int]] = field(default_factory=dict)

    def noting(self, table: str, blocks: Iterable[TableBlock]) -> Iterator[TableBlock]:
        for block in blocks:
            if table not in self.by_table:
                self.by_table[table] = {slot: int(values.shape[1]) for slot, values in block.slots.items()}
            yield block


def require_t(tables: Mapping[str, StoredTable], where: str) -> None:
    """Raises ValueError where Adam's moments come without t, by which they are corrected."""
    lacking = sorted(name for name, table in tables.items() if {"m", "v"} <= set(table.slots) and table.t is None)
    if lacking:
        raise ValueError(
            f"{where}: {', '.join(lacking)[:200]} has Adam's moments, but not how many steps were applied, by which Adam "
            "corrects them. Give --t, or leave the optimizer out by --no-optimizer."
        )


def sparse_state(tables: Mapping[str, StoredTable], widths: SlotWidths) -> dict[str, Any]:
    """As SparseOptimizer.state_dict has it, without numbers; {} where no table's optimizer is known.

    t: {table: applied steps}, of those that know it. param_groups: tables by kind of optimizer.
    """
    kinds: dict[str, list[str]] = {}
    for name, table in sorted(tables.items()):
        kind = kind_of(widths.by_table.get(name, {}), table.dim)
        if kind is not None:
            kinds.setdefault(kind, []).append(name)
    t = {name: tables[name].t for names in kinds.values() for name in names if tables[name].t is not None}
    groups = [{"kind": kind, "tables": names} for kind, names in kinds.items()]
    return {"t": t, "param_groups": groups} if groups else {}


def kind_of(slots: Mapping[str, int], dim: int) -> str | None:
    """The rule whose slots these are, {slot: columns}; None where no optimizer here has such."""
    if {"m", "v"} <= set(slots):
        return "adam"
    if "momentum" in slots:
        return "sgd"
    if "sum" in slots:
        return "adagrad" if slots["sum"] == dim and dim > 1 else "rowwise_adagrad"
    return None
