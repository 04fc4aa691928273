"""A model's tables as parts of a saved state. With the same ranks and placement, tables resume bit for bit.

With other ranks, shardings or coalescing, every row and its slots go to the row's owner.

Sizes: W ranks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from recis_core.backends import Snapshot
from recis_core.exchange.sharded_table import FORWARD_RESIDUAL
from recis_core.nn.hash_table import HashTable
from recis_core.serialize.parts import naming, part_of_state
from recis_core.serialize.resumed import Resumed
from recis_core.serialize.shared_state import by_rank
from recis_core.table.table import Table
from recis_core.table.unapplied import Carried
from recis_core.uninterrupted import uninterrupted

PART = "storage-"
HOOKS = ("admission", "eviction")  # parts that a saved state has together, under "hooks"


def _storages(tables: Mapping[str, HashTable]) -> dict[str, Table]:
    physical = dict.fromkeys(table.physical for table in tables.values())
    return {f"{PART}{i}": table for i, table in enumerate(physical)}


def snapshot_tables(tables: Mapping[str, HashTable]) -> dict[str, Any]:
    """{part: names and snapshot} for each physical table. Collective if ranks share the tables."""
    storages = _storages(tables)
    late = late_gradients(list(storages.values()))
    return {part: _snapshot(table, late[table]) for part, table in storages.items()}


def _snapshot(table: Table, late: Carried | None) -> dict[str, Any]:
    return {**beside_rows(table, late), "snapshot": dict(vars(table.export()))}


def beside_rows(table: Table, late: Carried | None) -> dict[str, Any]:
    """What a storage has beside rows. late: unapplied gradients."""
    saved: dict[str, Any] = {"names": list(table.names), "step": table.step}
    parts = {name: part.saved() for name, part in table.state_parts().items()}
    if hooks := {name: parts.pop(name) for name in HOOKS if name in parts}:
        saved["hooks"] = hooks
    if late is not None:
        saved["pending"] = dict(vars(late))
    if table.carried is not None:
        saved["carried"] = dict(vars(table.carried))
    if table.shardings:
        saved["shardings"] = [str(s) for s in table.shardings]
    return saved | parts


def _parts_of(saved: Mapping[str, Any]) -> dict[str, Any]:
    """By the names that Table.state_parts has."""
    return {**saved, **saved.get("hooks", {})}


def late_gradients(storages: list[Table]) -> dict[Table, Carried | None]:
    """Each storage's unapplied gradients, with error-feedback residuals that ranks have not sent to each other."""
    late = {table: table.carried for table in storages}
    for exchange in dict.fromkeys(t.exchange for t in storages if t.exchange is not None):
        late.update(exchange.unsent())
    return late


def storage_parts(state: Iterable[str]) -> list[str]:
    return [name for name in state if name.startswith(PART)]


def restore_tables(tables: Mapping[str, HashTable], state: Mapping[str, Any]) -> None:
    """Replace the tables' rows by a state's; every rank takes the rows that belong to it.

    Raises:
      ValueError: the state has other tables, or its rows or slots have another form. No table is changed then.
    """
    new = read_tables(tables, state)
    with uninterrupted():
        for each in new:
            each.commit()


def read_tables(tables: Mapping[str, HashTable], state: Mapping[str, Any], *, slots: bool = True) -> list[Resumed]:
    """Prepares all changes aside; call `commit` of each.

    slots: whether to read optimizers' slots and unapplied gradients; else slots get initial values.

    Raises:
      StateMismatch (a ValueError): the state has other tables, or its rows or slots have another form.
    """
    mine = _storages(tables)
    names = storage_parts(state)
    with naming(state, *names):
        shards = {part: by_rank(state, part) for part in dict.fromkeys(n.split(".")[0] for n in names)}
        mine_of = {part: names[min(_rank(mine), len(names) - 1)] for part, names in shards.items()}
    own = {part: part_of_state(state, name) for part, name in mine_of.items()}
    with naming(state, *mine_of.values()):
        _check_names(tables, own)
    new = {table: Resumed(table, slots) for table in mine.values()}
    if _as_they_were(mine, own, shards):
        for part, table in mine.items():
            with naming(state, mine_of[part]):
                _resume(new[table], own[part])
        return list(new.values())
    del own
    for parts in shards.values():
        _hand_out_parts(new, tables, state, parts)
    return list(new.values())


def _check_names(tables: Mapping[str, HashTable], own: Mapping[str, Any]) -> None:
    names = [name for saved in own.values() for name in saved["names"]]
    if set(names) != set(tables):
        raise ValueError(
            f"the saved tables are {sorted(names)}; this model's are {sorted(tables)}. "
            "Build the model with the same fields and options."
        )


def _hand_out_parts(
    new: Mapping[Table, Resumed], tables: Mapping[str, HashTable], state: Mapping[str, Any], parts: list[str]
) -> None:
    """Hand out all ranks' shards of one storage: one at a time, or joined if they are blocks of columns."""
    first = part_of_state(state, parts[0])
    with naming(state, *parts):
        if first.get("shardings", [""])[0] == "column":
            _hand_out(new, tables, _side_by_side([first, *(part_of_state(state, n) for n in parts[1:])]), first=True)
            return
    for number, name in enumerate(parts):
        saved = first if number == 0 else part_of_state(state, name)
        with naming(state, name):
            _hand_out(new, tables, saved, first=number == 0)
        first = None


def _checked_step(step: Any) -> int:
    if type(step) is not int or not 0 <= step < 2**63:
        raise ValueError(f"a table's step must count steps; got {str(step)[:80]!r}.")
    return step


def _rank(storages: Mapping[str, Table]) -> int:
    return next((t.exchange.channel.rank for t in storages.values() if t.exchange is not None), 0)


def _as_they_were(mine: Mapping[str, Table], own: Mapping[str, Any], shards: Mapping[str, list[str]]) -> bool:
    """Whether ranks, storages and shardings are those of the state; equal on all ranks."""

    def layout(table: Table) -> tuple[int, list[str], list[str]]:
        return table.world, list(table.names), [str(s) for s in table.shardings]

    now = {part: layout(table) for part, table in mine.items()}
    return now == {part: (len(shards[part]), saved["names"], saved.get("shardings", [])) for part, saved in own.items()}


def _resume(new: Resumed, saved: Mapping[str, Any]) -> None:
    """Take one rank's own part: rows with their placement, and the residuals of this sender."""
    fields = {f.name for f in dataclasses.fields(Snapshot)}
    snapshot = Snapshot(**{k: v for k, v in saved["snapshot"].items() if k in fields})
    snapshot.slots = _fitting(new, snapshot.slots)
    new.add(snapshot)
    new.step = _checked_step(saved["step"])
    take_late(new, saved)


def take_late(new: Resumed, saved: Mapping[str, Any]) -> None:
    """Take parts that the same rank and tables saved, and gradients that wait."""
    taken = new.take_parts(_parts_of(saved))
    # A sender that keeps its residual must not apply it as a gradient, too.
    late = saved.get("carried" if "residual" in taken else "pending")
    if new.slots and late is not None:
        new.carry(Carried(**late))


def taken_step(new: Resumed, saved: Mapping[str, Any]) -> None:
    """The storage's step; of a storage that keeps other tables, too, the later one."""
    step = _checked_step(saved["step"])
    new.step = step if new.whole else max(new.step, step)


def _fitting(new: Resumed, slots: dict[str, Tensor]) -> dict[str, Tensor]:
    """The slots to load; residuals of a lossy exchange are left out if the table keeps none.

    Raises:
      ValueError: slots of the table's optimizer are missing.
    """
    if not new.slots:
        return {}
    table = new.table
    own = {slot.name for slot in table.own_slots}
    if lacking := {slot.name for slot in table.slot_specs} - own - set(slots):
        raise ValueError(
            f"rows of {', '.join(table.names[:3])} lack the optimizer's slots {sorted(lacking)}; they have {sorted(slots)}."
        )
    return {name: values for name, values in slots.items() if name != FORWARD_RESIDUAL or name in own}


def _hand_out(
    new: Mapping[Table, Resumed], tables: Mapping[str, HashTable], saved: Mapping[str, Any], first: bool
) -> None:
    """Take the rows and pending gradient of one saved shard that belong on this rank; of replicas, those of the first."""
    shardings = saved.get("shardings", [])
    for ordinal, name in enumerate(saved["names"]):
        if shardings and shardings[ordinal] == "replicated" and not first:
            continue
        table = tables[name]
        _take_rows(new[table.physical], table, Snapshot(**saved["snapshot"]), ordinal)
        new[table.physical].step = _checked_step(saved["step"])
        if "pending" in saved and new[table.physical].slots:
            take_pending(new[table.physical], table, saved["pending"], ordinal)
    _hand_out_hooks(new, tables, saved)


def _hand_out_hooks(new: Mapping[Table, Resumed], tables: Mapping[str, HashTable], saved: Mapping[str, Any]) -> None:
    """Counts of ids without a row go to the owners of the ids; a filter's memory by row is dropped."""
    state, ours = _parts_of(saved), [tables[name] for name in saved["names"]]
    for physical in dict.fromkeys(table.physical for table in ours):
        ordinals = {theirs: t.ordinal for theirs, t in enumerate(ours) if t.physical is physical}
        new[physical].merge_parts(state, ordinals)


def _side_by_side(shards: list[Mapping[str, Any]]) -> dict[str, Any]:
    """One shard of whole rows, from all ranks' blocks of columns; each block has all keys, in the same order."""

    def whole(key: str, name: str) -> Tensor:
        return torch.cat([shard[key][name] for shard in shards], 1)

    first = shards[0]
    snapshot = {n: v for n, v in first["snapshot"].items() if n in ("ids", "tables", "scores", "stamps")}
    snapshot["weights"] = whole("snapshot", "weights")
    slots = [shard["snapshot"]["slots"] for shard in shards]
    snapshot["slots"] = {name: torch.cat([s[name] for s in slots], 1) for name in slots[0]}
    return {**side_by_side_pending(shards), "snapshot": snapshot}


def side_by_side_pending(shards: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What a storage has beside rows, of whole rows, from all ranks' blocks of columns."""
    first = shards[0]
    saved = {name: first[name] for name in ("names", "step", "shardings", "hooks") if name in first}
    if "pending" in first:
        values = torch.cat([shard["pending"]["values"] for shard in shards], 1)
        saved["pending"] = {**first["pending"], "values": values}
    return saved


def _here(table: HashTable, ids: Tensor, ordinals: Tensor, ordinal: int) -> Tensor:
    """Positions of the saved table's keys that belong on this rank."""
    its = (ordinals == ordinal).nonzero().flatten()
    return its[table.physical.keeps(ids[its], table.ordinal)]


def _take_rows(new: Resumed, table: HashTable, saved: Snapshot, ordinal: int) -> None:
    at = _here(table, saved.ids, saved.tables, ordinal)
    history = {n: v[at] for n in ("scores", "stamps") if (v := getattr(saved, n)) is not None}
    slots = {n: v[at] for n, v in _fitting(new, saved.slots).items()}
    ordinals = torch.full((len(at),), table.ordinal, dtype=torch.int32)
    new.add(Snapshot(saved.ids[at], ordinals, saved.weights[at], slots, **history))


def take_pending(new: Resumed, table: HashTable, pending: Mapping[str, Tensor], ordinal: int) -> None:
    """Take waiting gradients of a saved storage's logical table `ordinal` that belong to `table` on this rank."""
    saved = Carried(**pending)
    at = _here(table, saved.ids, saved.ordinals, ordinal)
    ordinals = torch.full((len(at),), table.ordinal, dtype=torch.int32)
    new.carry(Carried(saved.ids[at], ordinals, table.physical.cut(saved.values[at])))
