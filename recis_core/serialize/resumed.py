"""One storage's part of a saved state: prepared aside, then taken at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from recis_core.backends import Snapshot
from recis_core.table.replacement import Replacement
from recis_core.table.table import Table
from recis_core.table.unapplied import Carried, summed_by_key


class Resumed:
    """The new content of one storage. All checks come before `commit`.

    slots: whether rows keep their optimizers' slots. ordinals: logical tables to replace; None: all. If others stay, so do
    their gradients and what the storage has beside rows. room: how many rows are expected.
    """

    def __init__(
        self, table: Table, slots: bool = True, ordinals: Collection[int] | None = None, room: int = 0
    ) -> None:
        self.table, self.step, self.slots = table, table.step, slots
        self.whole = ordinals is None or len(set(ordinals)) == len(table.names)
        self._rows = Replacement(table, range(len(table.names)) if ordinals is None else ordinals, room)
        self._carried: Carried | None = None
        kept = table.state_parts().items() if self.whole else ()
        parts = {name: part for name, part in kept if slots or not part.of_gradients}
        self.parts = {name: part.aside() for name, part in parts.items()}

    def add(self, snapshot: Snapshot) -> None:
        self._rows.add(snapshot)

    def carry(self, more: Carried) -> None:
        """Raises ValueError unless these are gradients of this storage's rows."""
        check_carried(more, len(self.table.names), self.table.spec.dim)
        if len(more.ids):
            self._carried = more if self._carried is None else summed_by_key([self._carried, more])

    def take_parts(self, saved: Mapping[str, Any]) -> set[str]:
        """Take the parts that the same rank and tables saved; returns the names of those present."""
        there = self.parts.keys() & saved.keys()
        for name in there:
            self.parts[name].take(saved[name])
        return there

    def merge_parts(self, saved: Mapping[str, Any], ordinals: dict[int, int]) -> None:
        """Take parts of another rank or coalescing, for ids that belong on this rank."""
        for name in self.parts.keys() & saved.keys():
            self.parts[name].merge(saved[name], ordinals)

    def commit(self) -> None:
        self._rows.commit()
        if not self.whole and self.table.carried is not None:
            others = [self.table.carried, *([] if self._carried is None else [self._carried])]
            self._carried = summed_by_key(others)
        self.table.step, self.table.carried = self.step, self._carried
        for part in self.parts.values():
            part.commit()


def check_carried(carried: Carried, tables: int, dim: int) -> None:
    n = len(carried.ids)
    wanted = {"ids": (torch.int64, (n,)), "ordinals": (torch.int32, (n,)), "values": (torch.float32, (n, dim))}
    for name, (dtype, shape) in wanted.items():
        found = getattr(carried, name)
        if found.dtype != dtype or found.shape != shape:
            raise ValueError(
                f"{name} of its gradients must be {dtype} {shape}; got {found.dtype} {tuple(found.shape)}."
            )
    if n and not 0 <= int(carried.ordinals.min()) <= int(carried.ordinals.max()) < tables:
        raise ValueError(
            f"ordinals of its gradients must be of {tables} tables; got {carried.ordinals.unique().tolist()[:9]}."
        )
