"""Parts of a table's saved state beside rows, by name; the object that has a part gives it.

A part is loaded in two steps: an Aside reads the saved values, which may raise and changes nothing; then `commit`.
"""

from __future__ import annotations

from typing import Any, Protocol


class Aside(Protocol):
    """One part, read from a saved state and not yet in place."""

    def take(self, saved: Any) -> None:
        """Read what this rank's table saved."""

    def merge(self, saved: Any, ordinals: dict[int, int]) -> None:
        """Read what another rank or coalescing saved, for ids that belong on this rank. ordinals: ours by theirs."""

    def commit(self) -> None:
        """Put the part in place. Never raises."""


class StatePart(Protocol):
    """of_gradients: whether the part holds only gradients; it is left out if rows are loaded without slots."""

    of_gradients: bool

    def saved(self) -> Any:
        """Plain values and tensors; None if there is nothing to save."""

    def aside(self) -> Aside: ...
