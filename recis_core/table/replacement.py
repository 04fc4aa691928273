"""Other rows in the place of some logical tables' of a storage: made aside, then put there by one assignment.

    new = Replacement(storage, ordinals)        nothing changes yet, and may break off anywhere
    new.add(snapshot); …
    new.commit()                                the rows are these, and what waited for those before is gone

Rows of the storage's other logical tables stay where they are, with their numbers, slots and marks. Where there are some,
and rows in place of theirs, the storage is copied.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from recis_core.backends import Snapshot
from recis_core.table.optimizer_slots import slots_without, with_snapshot
from recis_core.table.unapplied import all_of
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.table.table import Table


class Replacement:
    """Of the rows of the logical tables `ordinals`.

    Raises:
      whatever a backend raises that has no memory for the rows beside those that are there. Nothing is changed then.
    """

    def __init__(self, table: Table, ordinals: Collection[int]) -> None:
        self.table, self.keys = table, all_of(ordinals)
        self._waiting = slots_without(table._homeless_slots, self.keys)
        self._known = {slot.name for slot in table.slot_specs}
        with table.lock:
            self._content = table.storage.content(set(ordinals), table.slot_specs)

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
