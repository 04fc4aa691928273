"""Other rows in the place of some logical tables' of a storage: made aside, then put there by one assignment.

    new = Replacement(storage, ordinals)        nothing changes yet, and may break off anywhere
    new.add(snapshot); …
    new.commit()                                the rows are these, and what waited for those before is gone

Rows of the storage's other logical tables stay where they are, with their numbers, slots and marks. Where there are some,
and rows in place of theirs, the storage is copied.

Sizes: n keys.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from recis_core.backends import Backend, Snapshot
from recis_core.backends.records import Marks
from recis_core.table.admission.admitting_backend import AdmittingBackend, AdmittingState
from recis_core.table.tiers.inside import tiered
from recis_core.table.unapplied import all_of
from recis_core.table.waiting_slots import slots_without, with_snapshot
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.table.physical import PhysicalTable


class Content(Protocol):
    """Rows on their way into a state.

    gone: rows for which they come, where the state is another one; None where it counts itself what went.
    """

    @property
    def gone(self) -> int | None: ...

    def add(self, snapshot: Snapshot) -> None: ...

    def put(self) -> Any:
        """The state that holds them."""
        ...


class Replacement:
    """Of the rows of the logical tables `ordinals`.

    Raises:
      whatever a backend raises that has no memory for the rows beside those that are there. Nothing is changed then.
    """

    def __init__(self, table: PhysicalTable, ordinals: Collection[int]) -> None:
        self.table, self.keys = table, all_of(ordinals)
        self._waiting = slots_without(table._homeless_slots, self.keys)
        self._known = {slot.name for slot in table.slot_specs}
        with table.lock:
            self._content = _content_of(table, set(ordinals))

    def add(self, snapshot: Snapshot) -> None:
        """Rows by id, of these logical tables; slots that no optimizer has asked for wait until one does.

        Raises:
          ValueError: a shape or dtype is not the table's.
        """
        snapshot = self.table.incoming(snapshot)
        waiting = with_snapshot(self._waiting, snapshot, self._known)
        slots = {name: values for name, values in snapshot.slots.items() if name in self._known}
        self._content.add(replace(snapshot, slots=slots))
        self._waiting = waiting

    @as_one
    def commit(self) -> None:
        """From now on the rows are these."""
        with self.table.lock:
            self.table.take_place(self._content, self.keys, self._waiting)


class Fresh:
    """A state of their own, which takes the other's place."""

    def __init__(self, table: PhysicalTable, backend: Backend, gone: int, kept: Snapshot | None = None) -> None:
        self.backend, self.gone = backend, gone
        self.state = backend.add_slots(backend.create(table.spec), table.slot_specs)
        if kept is not None:
            self.state = backend.restore(self.state, kept)

    def add(self, snapshot: Snapshot) -> None:
        self.state = self.backend.restore(self.state, snapshot)

    def put(self) -> Any:
        return self.state


class InPlace:
    """Rows that come to others, none of which they take the place of; or none, in place of those that go."""

    gone = None

    def __init__(self, backend: Backend, state: Any, erased: tuple[Tensor, Tensor]) -> None:
        self.backend, self.state, self.erased = backend, state, erased
        self.parts: list[Snapshot] = []

    def add(self, snapshot: Snapshot) -> None:
        self.parts.append(snapshot)

    def put(self) -> Any:
        if not self.parts:
            return self.backend.erase(self.state, *self.erased) if len(self.erased[0]) else self.state
        return self.backend.restore(self.state, joined(self.parts))


class CopiedWhenNeeded:
    """Rows are erased in place where none comes in place of theirs; else all is copied."""

    def __init__(self, table: PhysicalTable, backend: Backend, state: Any, ordinals: set[int], erased: InPlace) -> None:
        self.table, self.backend, self.state, self.ordinals = table, backend, state, ordinals
        self.erased = erased
        self.content: Content = erased

    @property
    def gone(self) -> int | None:
        return self.content.gone

    def add(self, snapshot: Snapshot) -> None:
        if self.content is self.erased:
            kept = without_tables(self.backend.export(self.state), self.ordinals)
            self.content = Fresh(self.table, self.backend, len(self.erased.erased[0]), kept)
        self.content.add(snapshot)

    def put(self) -> Any:
        return self.content.put()


class Admitted:
    """Rows in a table that admits."""

    def __init__(self, state: AdmittingState, inner: Content) -> None:
        self.state, self.inner = state, inner

    @property
    def gone(self) -> int | None:
        return self.inner.gone

    def add(self, snapshot: Snapshot) -> None:
        self.inner.add(snapshot)

    def put(self) -> Any:
        after = AdmittingState(None, self.state.policy, self.state.counts)
        after.inner = self.inner.put()
        return after


def _content_of(table: PhysicalTable, ordinals: set[int]) -> Content:
    """Where the rows are to go."""
    backend, state = table.backend, table.state
    if isinstance(backend, AdmittingBackend):
        return Admitted(state, _inner_content(table, backend.inner, state.inner, ordinals))
    return _inner_content(table, backend, state, ordinals)


def _inner_content(table: PhysicalTable, backend: Any, state: Any, ordinals: set[int]) -> Content:
    if tiered(state) is not None:
        from recis_core.table.tiers.replacing import content_in_tiers  # as heavy as tiers

        return content_in_tiers(state, ordinals, len(table.names))
    if len(ordinals) == len(table.names):
        return Fresh(table, backend, backend.counters(state).rows)
    marks = backend.marks(state)
    theirs = _of_tables(marks, ordinals)
    if bool(theirs.all()):
        return Fresh(table, backend, len(theirs))
    in_place = InPlace(backend, state, (marks.ids[theirs].to(table.device), marks.tables[theirs].to(table.device)))
    return CopiedWhenNeeded(table, backend, state, ordinals, in_place) if bool(theirs.any()) else in_place


def _of_tables(keys: Marks | Snapshot, ordinals: set[int]) -> Tensor:
    return torch.isin(keys.tables, torch.tensor(sorted(ordinals), dtype=torch.int32))


def without_tables(whole: Snapshot, ordinals: set[int]) -> Snapshot:
    """As if these logical tables' rows had been erased: the others keep their places, and stash entries close up."""
    stay = ~_of_tables(whole, ordinals)
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
    """-1 - k of stash places k in their order, without gaps."""
    stashed = (slot_numbers < 0).nonzero().flatten()
    closed = slot_numbers.clone()
    in_order = stashed[slot_numbers[stashed].argsort(descending=True)]
    closed[in_order] = -1 - torch.arange(len(stashed), dtype=slot_numbers.dtype)
    return closed


def joined(parts: list[Snapshot]) -> Snapshot:
    """One for all; slots that all of them have, and marks likewise."""
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
