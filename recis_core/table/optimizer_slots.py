"""Optimizer slots of a storage: added to its rows, reset, or waiting for an optimizer if rows were loaded before it.

Sizes: n keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recis_core.backends import Clock, LookupMode, SlotSpec, Snapshot
from recis_core.backends.errors import RecisError
from recis_core.table.storage import Storage
from recis_core.table.unapplied import Keys

FIND = LookupMode(insert=False, touch=False)


@dataclass(frozen=True)
class WaitingSlots:
    """Slots of rows that were loaded together, without erased rows. On the CPU."""

    ids: Tensor  # int64 [n]
    ordinals: Tensor  # int32 [n]
    slots: dict[str, Tensor]  # float32 [n, width]

    def without(self, keys: Keys) -> WaitingSlots:
        stay = ~keys.among(self.ids, self.ordinals)
        if bool(stay.all()):
            return self
        return WaitingSlots(self.ids[stay], self.ordinals[stay], {k: v[stay] for k, v in self.slots.items()})


Waiting = tuple[WaitingSlots, ...]


def slots_without(waiting: Waiting, keys: Keys) -> Waiting:
    left = (slots.without(keys) for slots in waiting)
    return tuple(slots for slots in left if len(slots.ids))


def with_snapshot(waiting: Waiting, snapshot: Snapshot, known: set[str]) -> Waiting:
    """`waiting`, with the snapshot's slots that the table does not have; they replace older slots of its rows."""
    left = slots_without(waiting, Keys(snapshot.ids.cpu(), snapshot.tables.cpu()))
    slots = {name: values for name, values in snapshot.slots.items() if name not in known}
    return (*left, WaitingSlots(snapshot.ids, snapshot.tables, slots)) if slots and len(snapshot.ids) else left


def check_waiting(waiting: Waiting, slots: Sequence[SlotSpec], names: Sequence[str], optimizer: str) -> None:
    """Raises ValueError if waiting slots have another dtype or width than the optimizer's."""
    wanted = {slot.name: slot.width for slot in slots}
    for part in waiting:
        for name in wanted.keys() & part.slots.keys():
            found = part.slots[name]
            if found.dtype != torch.float32 or tuple(found.shape) != (len(part.ids), wanted[name]):
                raise ValueError(
                    f"tables {', '.join(names)} were loaded with slot {name!r} of {found.dtype} {list(found.shape)[1:]} a row; "
                    f"{optimizer} keeps float32 [{wanted[name]}]. Make the kind of optimizer that the state was "
                    "saved with, or load it without keys that hold '.slot.'."
                )


def add_slots(storage: Storage, slots: tuple[SlotSpec, ...], names: Sequence[str], optimizer: str) -> None:
    """Raises RecisError if rows already have slots of these names in another form."""
    try:
        storage.add_slots(slots)
    except ValueError as error:
        raise RecisError(
            f"tables {', '.join(names)} hold slots of a former optimizer that {optimizer} wants otherwise: {error} "
            "Load the rows into a second engine, without keys that hold '.slot.'."
        ) from error


def renew(storage: Storage, initial: dict[str, float]) -> None:
    """Reset slots left by a former optimizer, after another kind of optimizer had the table."""
    if not initial:
        return
    now = storage.export()
    for name in initial.keys() & now.slots.keys():
        now.slots[name].fill_(initial[name])
    storage.restore(now)


def house(storage: Storage, waiting: Waiting, wanted: set[str], device: torch.device, clock: Clock) -> None:
    """Write waiting slots to their rows."""
    for part in waiting:
        rows, _ = storage.lookup(part.ids.to(device), part.ordinals.to(device), mode=FIND, clock=clock)
        for name in part.slots.keys() & wanted:
            storage.write_slot(name, rows, part.slots[name].to(device))
