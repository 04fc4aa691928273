"""A forward, until its last backward."""

from __future__ import annotations


class Ticket:
    """A forward whose backward may still come; while it lives and waits, the rows it touched are pinned.

    It is told when its last backward came: a frame that an exception or a compilation left behind may keep it alive.
    """

    def __init__(self, step: int, erasures: int = 0) -> None:
        self.step, self.erasures, self.waits = step, erasures, True
