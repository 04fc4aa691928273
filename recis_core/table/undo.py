"""What puts rows back as they were before others were written over them, or takes away those that came.

    undo = Undo(table)
    undo.note(snapshot)          before each table.insert(snapshot)
    undo.undo()                  the last note first
    undo.close()

Sizes: n rows of a snapshot.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from typing import IO, TYPE_CHECKING

import safetensors.torch
import torch
from torch import Tensor

from recis_core.backends import Snapshot
from recis_core.backends.records import Marks
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.table.table import Table

HELD = 1 << 26  # bytes of old rows in memory; more go to a temporary file


@dataclass(frozen=True)
class _Note:
    """ids, ordinals: of rows that were new. old: of those that were there, in memory or in the file from `begin` to `end`."""

    ids: Tensor
    ordinals: Tensor
    old: Snapshot | None
    begin: int = 0
    end: int = 0


class Undo:
    """Of rows by id, their slots and marks, and slots that wait for an optimizer. Gradients are left alone.

    Memory: 12 bytes a new row, old rows up to HELD bytes, and marks of all rows of a table that is not in tiers.
    """

    def __init__(self, table: Table) -> None:
        self._table, self._waiting = table, table._homeless_slots
        self._notes: list[_Note] = []
        self._held = 0
        self._file: IO[bytes] | None = None

    def note(self, snapshot: Snapshot) -> None:
        """These ids of one logical table are about to be written."""
        table = self._table
        keys = snapshot.ids.to(table.device), snapshot.tables.to(table.device)
        with table.lock:
            _ = self._marks  # before anything is written
            found = table.storage.rows_of(*keys, marks=False)
        new = ~torch.isin(snapshot.ids, found.ids)
        note = _Note(snapshot.ids[new], snapshot.tables[new], self._marked(found) if len(found.ids) else None)
        self._notes.append(self._kept(note))

    @as_one
    def undo(self) -> None:
        """Put all rows back. The table has what it had before the first note."""
        while self._notes:
            note = self._notes[-1]
            if len(note.ids):
                self._table.forget(note.ids, note.ordinals)
            if note.end or note.old is not None:
                self._table.insert(self._read(note))
            self._notes.pop()
        self._table._homeless_slots = self._waiting

    def close(self) -> None:
        """Nothing will be undone."""
        self._notes = []
        if self._file is not None:
            self._file.close()

    @cached_property
    def _marks(self) -> dict[int, Marks] | None:
        """By logical table, those of all rows, by id; None in tiers, whose rows come with their marks."""
        if self._table.storage.tiers is not None:
            return None
        marks, found = self._table.storage.marks(), {}
        for ordinal in range(len(self._table.names)):
            at = (marks.tables == ordinal).nonzero().flatten()
            at = at[marks.ids[at].argsort()]
            found[ordinal] = Marks(marks.ids[at], marks.tables[at], marks.rows[at], marks.scores[at], marks.stamps[at])
        return found

    def _marked(self, found: Snapshot) -> Snapshot:
        """With the marks that the rows had at the first note; rows that came since have none, and go by an earlier note."""
        if self._marks is None:
            return found
        before = self._marks[int(found.tables[0])]
        at = torch.searchsorted(before.ids, found.ids)
        if not len(before.ids) or not torch.equal(before.ids[at.clamp(max=len(before.ids) - 1)], found.ids):
            return found
        return replace(found, scores=before.scores[at], stamps=before.stamps[at])

    def _kept(self, note: _Note) -> _Note:
        if note.old is None:
            return note
        parts = {"ids": note.old.ids, "tables": note.old.tables, "weights": note.old.weights}
        parts |= {f"slots/{name}": values for name, values in note.old.slots.items()}
        parts |= {name: v for name in ("scores", "stamps") if (v := getattr(note.old, name)) is not None}
        self._held += sum(values.nbytes for values in parts.values())
        if self._held <= HELD:
            return note
        self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115, it ends with the undo
        begin = self._file.seek(0, 2)
        self._file.write(safetensors.torch.save({name: values.contiguous() for name, values in parts.items()}))
        return replace(note, old=None, begin=begin, end=self._file.tell())

    def _read(self, note: _Note) -> Snapshot:
        if note.old is not None or self._file is None:
            return note.old  # type: ignore[return-value]
        self._file.seek(note.begin)
        parts = safetensors.torch.load(self._file.read(note.end - note.begin))
        slots = {name.removeprefix("slots/"): values for name, values in parts.items() if name.startswith("slots/")}
        columns = parts["ids"], parts["tables"], parts["weights"], slots
        return Snapshot(*columns, scores=parts.get("scores"), stamps=parts.get("stamps"))
