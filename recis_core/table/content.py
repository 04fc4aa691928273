"""Rows that will replace some logical tables' rows in a storage; and snapshots, cut and joined for that.

Sizes: n keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from recis_core.backends import Snapshot
from recis_core.backends.records import Marks

if TYPE_CHECKING:
    from recis_core.table.storage import Storage


class Content(Protocol):
    """Rows that will go into a storage.

    gone: how many rows they replace, if they go into another storage; None if the same storage stays and counts erased rows.
    """

    @property
    def gone(self) -> int | None: ...

    def add(self, snapshot: Snapshot) -> None: ...

    def put(self) -> Storage: ...


class Fresh:
    """An empty storage, which will replace the old one."""

    def __init__(self, empty: Storage, gone: int) -> None:
        self.storage, self.gone = empty, gone

    def add(self, snapshot: Snapshot) -> None:
        self.storage.restore(snapshot)

    def put(self) -> Storage:
        return self.storage


class InPlace:
    """Adds rows to a storage that holds none of these tables' rows; or, if none are added, erases `erased`."""

    gone = None

    def __init__(self, storage: Storage, erased: tuple[Tensor, Tensor]) -> None:
        self.storage, self.erased = storage, erased
        self.parts: list[Snapshot] = []

    def add(self, snapshot: Snapshot) -> None:
        self.parts.append(snapshot)

    def put(self) -> Storage:
        if self.parts:
            self.storage.restore(joined(self.parts))
        elif len(self.erased[0]):
            self.storage.erase(*self.erased)
        return self.storage


class CopiedWhenNeeded:
    """Erases rows in place if none are added; else copies the other tables' rows into an empty storage."""

    def __init__(self, storage: Storage, empty: Callable[[], Storage], ordinals: set[int], erased: InPlace) -> None:
        self.storage, self.empty, self.ordinals, self.erased = storage, empty, ordinals, erased
        self.content: Content = erased

    @property
    def gone(self) -> int | None:
        return self.content.gone

    def add(self, snapshot: Snapshot) -> None:
        if self.content is self.erased:
            copied = Fresh(self.empty(), len(self.erased.erased[0]))
            copied.add(without_tables(self.storage.export(), self.ordinals))
            self.content = copied
        self.content.add(snapshot)

    def put(self) -> Storage:
        return self.content.put()


def of_tables(keys: Marks | Snapshot, ordinals: set[int]) -> Tensor:
    return torch.isin(keys.tables, torch.tensor(sorted(ordinals), dtype=torch.int32))


def without_tables(whole: Snapshot, ordinals: set[int]) -> Snapshot:
    """The snapshot after erasing these logical tables' rows: other rows keep their places, stash entries close up."""
    stay = ~of_tables(whole, ordinals)
    slots = {name: values[stay] for name, values in whole.slots.items()}
    kept = replace(whole, ids=whole.ids[stay], tables=whole.tables[stay], weights=whole.weights[stay], slots=slots)
    for name in ("scores", "stamps", "row_numbers", "slot_numbers"):
        values = getattr(whole, name)
        setattr(kept, name, None if values is None else values[stay])
    if whole.row_numbers is not None and whole.free_rows is not None:
        kept.free_rows = torch.cat([whole.free_rows, whole.row_numbers[~stay].sort().values])
    if kept.slot_numbers is not None:
        kept.slot_numbers = _closed_up(kept.slot_numbers)
    return kept


def _closed_up(slot_numbers: Tensor) -> Tensor:
    """Numbers stash entries -1, -2, … in their order, without gaps."""
    stashed = (slot_numbers < 0).nonzero().flatten()
    closed = slot_numbers.clone()
    in_order = stashed[slot_numbers[stashed].argsort(descending=True)]
    closed[in_order] = -1 - torch.arange(len(stashed), dtype=slot_numbers.dtype)
    return closed


def joined(parts: list[Snapshot]) -> Snapshot:
    """One snapshot of all parts, with the slots and marks that all parts have."""
    if len(parts) == 1:
        return parts[0]
    names = set.intersection(*(set(part.slots) for part in parts))
    marks = {n: _cat([getattr(part, n) for part in parts]) for n in ("scores", "stamps")}
    return Snapshot(
        torch.cat([part.ids for part in parts]),
        torch.cat([part.tables for part in parts]),
        torch.cat([part.weights for part in parts]),
        {name: torch.cat([part.slots[name] for part in parts]) for name in sorted(names)},
        scores=marks["scores"],
        stamps=marks["stamps"],
    )


def _cat(parts: list[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.cat(given) if len(given) == len(parts) else None
