"""Which rows of a physical table may have changed since they were last asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.table.table import Table

# Ids noted before repeated ones are dropped: a few MB, and a sort every few hundred steps.
COMPACT_AT = 1 << 20


class ChangedIds:
    """Observes a table until `close`; a superset of the keys that came, went or changed."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._replacements = table.replacements
        self._noted: list[tuple[Tensor, Tensor]] = []
        self._count = 0
        self._lost = False
        table.observers.append(self._note)

    def _note(self, ids: Tensor, ordinals: Tensor) -> None:
        """The table has changed already, so that nothing may be raised here: what cannot be noted counts as all."""
        try:
            # Copies, on the ids' own device: callers may write into their batches again.
            self._noted.append((ids.detach().clone(), ordinals.clone()))
            self._count += len(ids)
            if self._count > COMPACT_AT:
                self._compact()
        except (MemoryError, RuntimeError):
            self._noted, self._count, self._lost = [], 0, True

    def _compact(self) -> None:
        kept = self._by_ordinal()
        self._noted = [(ids, torch.full_like(ids, ordinal, dtype=torch.int32)) for ordinal, ids in kept.items()]
        self._count = -sum(len(ids) for ids in kept.values())

    def _by_ordinal(self) -> dict[int, Tensor]:
        if not self._noted:
            return {}
        ids, ordinals = (torch.cat([part.cpu() for part in side]) for side in zip(*self._noted, strict=True))
        return {int(ordinal): ids[ordinals == ordinal].unique() for ordinal in ordinals.unique()}

    def take(self) -> dict[int, Tensor] | None:
        """{ordinal: distinct ids, ascending, on the CPU} noted since the last take.

        None: all rows may have changed, for another state took the table's place or ids could not be noted.
        """
        replacements = self._table.replacements
        all_of_them = self._lost or replacements != self._replacements
        taken = None if all_of_them else self._by_ordinal()
        self._noted, self._count, self._lost, self._replacements = [], 0, False, replacements
        return taken

    def close(self) -> None:
        self._table.observers.remove(self._note)
