"""What a table has beside rows, and a saved state holds: each part by name, given by the one that has it.

A part comes back in two steps: what is made aside changes nothing, and may be refused; `commit` puts it in place.
"""

from __future__ import annotations

from typing import Any, Protocol


class Aside(Protocol):
    """One part on its way from a saved state."""

    def take(self, saved: Any) -> None:
        """What this rank's table had saved."""

    def merge(self, saved: Any, ordinals: dict[int, int]) -> None:
        """What another rank or another coalescing had saved, as far as ids belong here. ordinals: ours by theirs."""

    def commit(self) -> None:
        """In place of what the table has. Raises nothing."""


class StatePart(Protocol):
    """of_gradients: whether the part is of gradients alone, so that rows without their slots come without it."""

    of_gradients: bool

    def saved(self) -> Any:
        """Plain values and tensors; None where there is nothing to save."""

    def aside(self) -> Aside: ...
