"""Replaces the rows of some logical tables: new rows are prepared aside, then take effect by one assignment.

    new = Replacement(table, ordinals)          changes nothing yet; may fail at any point
    new.add(snapshot); …
    new.commit()                                the table has these rows; gradients and slots of the former are gone

Rows of the storage's other logical tables keep their numbers, slots and marks. If these have rows, and the replaced
tables had rows and get new ones, the storage is copied.
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
    """Replaces all rows of the logical tables `ordinals`. room: how many rows are expected, so that no array has to grow.

    Raises:
      what the backend raises if memory cannot hold old and new rows together. The table is unchanged then.
    """

    def __init__(self, table: Table, ordinals: Collection[int], room: int = 0) -> None:
        self.table, self.keys = table, all_of(ordinals)
        self._waiting = slots_without(table._homeless_slots, self.keys)
        self._known = {slot.name for slot in table.slot_specs}
        with table.lock:
            self._content = table.storage.content(set(ordinals), table.slot_specs, room)

    def add(self, snapshot: Snapshot) -> None:
        """Add rows of these logical tables by id; slots that the table does not have wait for an optimizer.

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
        """Put the new rows in place."""
        with self.table.lock:
            self.table.take_place(self._content, self.keys, self._waiting)
