"""Optimizer slots of a table, as RecIS names them."""

from __future__ import annotations

from torch import Tensor


class SlotGroup:
    """Slots by name, float32 [n, width], in the order of the table's ids()."""

    def __init__(self, slots: dict[str, Tensor]) -> None:
        self._slots = slots

    def slot_names(self) -> list[str]:
        return list(self._slots)

    def slot_by_name(self, name: str) -> Tensor:
        """Raises ValueError if there is no such slot; an optimizer adds its slots when it attaches."""
        if name not in self._slots:
            raise ValueError(f"no slot {name!r}; this table has {self.slot_names()}.")
        return self._slots[name]
