"""Tables of a checkpoint, read aside: rows, and what a storage has beside rows. With other ranks, shardings, storages,
tiers or backends every row goes to its owner here.

Sizes: n rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recis_core.backends.errors import StateMismatch
from recis_core.exchange.sharded_table import FORWARD_RESIDUAL
from recis_core.nn.hash_table import HashTable
from recis_core.serialize.checkpoint.checkpoint import Checkpoint
from recis_core.serialize.checkpoint.load_rows import kept_here, snapshot_of
from recis_core.serialize.checkpoint.selection import Taken
from recis_core.serialize.parts import naming
from recis_core.serialize.resumed import Resumed
from recis_core.serialize.shared_state import by_rank
from recis_core.serialize.table_block import TableBlock
from recis_core.serialize.tables import side_by_side_pending, take_late, take_pending, taken_step
from recis_core.table.table import Table

AT_ONCE = 1 << 14  # rows that are written into tiers at a time; a table in memory takes a file's rows in one piece
WHOLE = 1 << 31
BESIDE = "beside-rows-"  # parts; a number for each storage of those that saved


class TablesAside:
    """The new content of all storages that get rows. fresh: what starts anew, in words. ignored: slots that nothing reads."""

    def __init__(self, tables: Mapping[str, HashTable], taken: Mapping[str, Taken], *, slots: bool = True) -> None:
        """taken: {table here: what it gets}. slots: whether rows bring their optimizer's slots and unapplied gradients.

        Raises StateMismatch, CorruptCheckpoint; nothing has changed then.
        """
        self._with_slots = slots
        self.fresh: list[str] = []
        self.ignored: list[str] = []
        by_storage: dict[Table, dict[str, Taken]] = {}
        for name, each in taken.items():
            by_storage.setdefault(tables[name].physical, {})[name] = each
        self._new = [self._read(table, tables, mine) for table, mine in by_storage.items()]

    def commit(self) -> None:
        for each in self._new:
            each.commit()

    def _read(self, table: Table, tables: Mapping[str, HashTable], taken: Mapping[str, Taken]) -> Resumed:
        ordinals = [tables[name].ordinal for name in taken]
        new = Resumed(table, self._with_slots, ordinals, room=_room(table, taken))
        for name, each in taken.items():
            self._rows(new, tables[name], each)
        for checkpoint in dict.fromkeys(each.checkpoint for each in taken.values()):
            here = {each.name: tables[n] for n, each in taken.items() if each.checkpoint is checkpoint}
            _beside(new, checkpoint, {name.removeprefix("tables/"): found for name, found in here.items()})
        return new

    def _rows(self, new: Resumed, table: HashTable, taken: Taken) -> None:
        checkpoint, name = taken.checkpoint, taken.name.removeprefix("tables/")
        info, widths = checkpoint.tables[name], _widths(table.physical)
        if (info.dim, info.dtype) != (table.dim, table.option.dtype):
            raise StateMismatch(
                f"{checkpoint.path}: rows of table {name!r} are {info.dtype} [{info.dim}]; table {table.name!r} here has "
                f"{table.option.dtype} [{table.dim}]."
            )
        kept = self._slots(table, info.slots, widths) if new.slots else set()
        for block in checkpoint.blocks(name, WHOLE if table.physical.storage.tiers is None else AT_ONCE):
            slots = {slot: values for slot, values in block.slots.items() if slot in kept}
            mine = TableBlock(block.ids, block.rows, slots, block.marks)
            new.add(snapshot_of(kept_here(table, mine), table.ordinal))
            del block, slots, mine  # the next file may use their memory

    def _slots(self, table: HashTable, saved: Mapping[str, int], widths: Mapping[str, int]) -> set[str]:
        """Slots to read: those that the table's optimizer has; all, to wait for one, if the table has none."""
        own = {slot.name for slot in table.physical.own_slots}
        fit = {name for name, width in saved.items() if widths.get(name) == width}
        if lacking := sorted(set(widths) - own - fit):
            self.fresh.append(f"tables/{table.name}: slots {', '.join(lacking)}")
        left = set(saved) - fit - {FORWARD_RESIDUAL}
        if table.physical.optimizer is None and not widths:
            return fit | left
        self.ignored += [f"tables/{table.name}: slot {name}" for name in sorted(left)]
        return fit


def _room(table: Table, taken: Mapping[str, Taken]) -> int:
    """Rows that will come, as far as files tell: arrays that are large enough at once are copied never."""
    rows = sum(each.checkpoint.rows_there(each.name.removeprefix("tables/")) for each in taken.values())
    everywhere = table.replicated or table.columns != (0, table.row_dim)
    return rows if everywhere else rows // table.world


def _widths(table: Table) -> dict[str, int]:
    """{slot: columns of a whole row}"""
    whole = {table.spec.dim: table.row_dim}
    return {slot.name: whole.get(slot.width, slot.width) for slot in table.slot_specs}


def _beside(new: Resumed, checkpoint: Checkpoint, here: Mapping[str, HashTable]) -> None:
    """Take steps, unapplied gradients and hooks' memory of the storages that held these tables. here: by names there."""
    names = [name for name in checkpoint.parts if name.startswith(BESIDE)]
    for part in dict.fromkeys(name.split(".")[0] for name in names):
        ranks = by_rank(checkpoint.parts, part)
        own = checkpoint.part(ranks[min(_rank(new.table), len(ranks) - 1)])
        if not set(own["names"]) & set(here):
            continue
        with naming(checkpoint, *ranks):
            if _as_they_were(new, own, len(ranks), here):
                taken_step(new, own)
                take_late(new, own)
            else:
                _hand_out(new, [checkpoint.part(rank) for rank in ranks], here)


def _rank(table: Table) -> int:
    return 0 if table.exchange is None else table.exchange.channel.rank


def _as_they_were(new: Resumed, own: Mapping[str, Any], ranks: int, here: Mapping[str, HashTable]) -> bool:
    """Whether the storage has the tables, ranks and shardings that were saved, and takes all of them."""
    table = new.table
    saved = list(own["names"]), own.get("shardings", []), ranks
    mine = list(table.names), [str(s) for s in table.shardings], table.world
    return saved == mine and all(name in here and here[name].name == name for name in own["names"])


def _hand_out(new: Resumed, ranks: list[Mapping[str, Any]], here: Mapping[str, HashTable]) -> None:
    if ranks[0].get("shardings", [""])[0] == "column":
        ranks = [side_by_side_pending(ranks)]
    for number, saved in enumerate(ranks):
        ordinals = {theirs: here[name].ordinal for theirs, name in enumerate(saved["names"]) if name in here}
        taken_step(new, saved)
        for theirs, name in enumerate(saved["names"]):
            replica = saved.get("shardings", [""] * (theirs + 1))[theirs] == "replicated"
            if new.slots and name in here and "pending" in saved and not (replica and number):
                take_pending(new, here[name], saved["pending"], theirs)
        new.merge_parts({**saved, **saved.get("hooks", {})}, ordinals)
