"""Whether rows and slots that a caller gives fit a table."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recis_core.backends.spec import SlotSpec, TableSpec


def check_rows(
    spec: TableSpec, slot_specs: Mapping[str, SlotSpec], rows: Tensor, weights: Tensor, slots: Mapping[str, Tensor]
) -> None:
    """Raises ValueError unless weights [U, D] and all the table's slots [U, width] are there for rows [U]."""
    dtype, shape = getattr(torch, spec.dtype), (len(rows), spec.dim)
    if weights.dtype != dtype or tuple(weights.shape) != shape:
        raise ValueError(f"weights must be {dtype} {list(shape)}; got {weights.dtype} {list(weights.shape)}.")
    if slots.keys() != slot_specs.keys():
        raise ValueError(f"slots must be {sorted(slot_specs)}; got {sorted(slots)}.")
    for name, slot in slot_specs.items():
        if tuple(slots[name].shape) != (len(rows), slot.width):
            raise ValueError(f"slot {name!r} must be {[len(rows), slot.width]}; got {list(slots[name].shape)}.")


def new_slots(present: Mapping[str, SlotSpec], slots: tuple[SlotSpec, ...]) -> list[SlotSpec]:
    """Those that the table lacks. Raises ValueError where a slot of that name differs."""
    known = dict(present)
    for slot in slots:
        if known.setdefault(slot.name, slot) != slot:
            raise ValueError(
                f"slot {slot.name!r} exists as {known[slot.name]}; got {slot}. Give one of them another name."
            )
    return [slot for name, slot in known.items() if name not in present]
