"""One forward, from its lookup to its last backward."""

from __future__ import annotations


class Ticket:
    """A forward whose backward may still come. While a ticket is alive and `waits`, the rows it touched are pinned.

    The last backward sets `waits` to False, for a frame left by an exception or a compilation may keep a ticket alive.
    """

    def __init__(self, step: int, erasures: int = 0) -> None:
        self.step, self.erasures, self.waits = step, erasures, True
