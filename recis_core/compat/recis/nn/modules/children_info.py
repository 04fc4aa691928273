"""The named tables that share one storage."""

from __future__ import annotations

from collections.abc import Sequence

from recis_core.compat.recis.nn.modules import ids


class ChildrenInfo:
    """Children by number; a child's number stands in the upper 12 bits of an encoded id."""

    def __init__(self, children: Sequence[str], coalesced: bool) -> None:
        self._children, self._coalesced = list(children), coalesced

    def children(self) -> list[str]:
        return list(self._children)

    def child_index(self, child: str) -> int:
        return self._children.index(child)

    def child_at(self, index: int) -> str:
        return self._children[index]

    def has_child(self, child: str) -> bool:
        return child in self._children

    def is_coalesce(self) -> bool:
        return self._coalesced

    @staticmethod
    def id_mask() -> int:
        return ids.MASK
