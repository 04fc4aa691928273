"""Rows and slots of a whole table put in its place at once.

Sizes: n rows, D dim.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recis_core.nn.hash_table import HashTable
from recis_core.table.table import SLICES

HEAD = f"slices.0-{SLICES}."


def rows_of(table: HashTable, ids: Tensor) -> Tensor:
    """[n, D] in the table's dtype; an id without a row has its initial values."""
    return table.lookup(ids.to(table.physical.device))[0].to(table.option.dtype)


def slots_of(table: HashTable) -> dict[str, Tensor]:
    """{"ids": int64 [n], slot: float32 [n, width]} of the rows that the table has."""
    there = table.snapshot()
    return {"ids": there.ids, **there.slots}


def all_of(table: HashTable, ids: Tensor, rows: Tensor, slots: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The rows as an entry of a table's state_dict. slots: as slots_of; ids that these lack begin with initial slots."""
    initial = {spec.name: spec.initial for spec in table.physical.slot_specs}
    known = slots["ids"]
    at = torch.searchsorted(ids, known)
    state = {HEAD + "ids": ids, HEAD + "rows": rows.detach().cpu().to(table.option.dtype)}
    for name, values in slots.items():
        if name != "ids":
            filled = torch.full((len(ids), values.shape[1]), initial.get(name, 0.0))
            state[f"{HEAD}slot.{name}"] = filled.index_copy(0, at, values)
    return state


def check_slots(table: HashTable, slots: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless these are slots of the table's optimizer, as slots_of has them."""
    wanted = {spec.name: spec.width for spec in table.physical.slot_specs}
    ids = slots.get("ids")
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64 or ids.dim() != 1 or len(ids.unique()) != len(ids):
        raise ValueError(f"slots of table {table.name!r} must have ids, int64 [n], each once.")
    found = {name: list(values.shape) for name, values in slots.items() if name != "ids"}
    if found != {name: [len(ids), width] for name, width in wanted.items()}:
        raise ValueError(
            f"slots of table {table.name!r} must be {', '.join(f'{n} [n, {w}]' for n, w in wanted.items()) or 'none'}, with "
            f"n = {len(ids)}; got {found}."
        )


def take_slots(table: HashTable, slots: Mapping[str, Tensor]) -> None:
    """Give rows these slots, as slots_of has them; rows keep their values, and ids without a row get one.

    check_slots says whether they fit.
    """
    ids = torch.cat([table.ids(), slots["ids"]]).unique()
    table.load_state_dict(all_of(table, ids, rows_of(table, ids), slots))
