"""Log lines while loops or programs are compiled, at INFO of this module's logger, so that nobody waits without a word.

Compilations come in bursts: most of them in the first step, some when a table grows or a batch has another size. A burst
begins with a line, and a line follows every few seconds. What is read from a cache on disk is no compilation.
"""

from __future__ import annotations

import logging
import time

LOG = logging.getLogger(__name__)
APART = 2.0  # seconds without compilation that end a burst
EVERY = 2.0  # seconds between lines of a burst


class Compiling:
    """What one compiler does: `seconds` of it so far, and the `count` of compilations.

    nests: one may begin inside of another; else one that begins tells that the last one is over, also if it failed.
    usual: compilations of a first step, about; None where that depends on sizes.
    """

    def __init__(self, compiler: str, of: str, *, nests: bool, usual: int | None = None) -> None:
        self._compiler, self._of, self._nests, self._usual = compiler, of, nests, usual
        self.seconds = 0.0
        self.count = 0
        self._depth = 0
        self._began = self._opened = self._said = self._ended = float("-inf")
        self._before = 0  # compilations before this burst
        self._opening = ""

    def begins(self, name: str, opening: str, *, news: bool = False) -> None:
        """Compiling something of this name.

        opening: the first line of a burst; with news, of one of its own, also right after another.
        """
        now = time.monotonic()
        self._depth = self._depth if self._nests else 0
        if self._depth == 0:
            self._began = now
        if self._depth == 0 and (now - self._ended > APART or (news and opening != self._opening)):
            self._opened = self._said = now
            self._opening, self._before = opening, self.count
            LOG.info("%s", opening)
        elif now - self._said > EVERY:
            self._said = now
            LOG.info(
                "%s has compiled %s, %.0f s so far; now %s", self._compiler, self._done(), now - self._opened, name
            )
        self._depth += 1

    def _done(self) -> str:
        done = self.count - self._before
        of = f" of about {self._usual}" if self._usual is not None and self._before == 0 and done < self._usual else ""
        return f"{done}{of} {self._of}"

    def ends(self) -> None:
        """The last one that began."""
        if self._depth == 0:
            return
        self._depth -= 1
        self.count += 1
        if self._depth == 0:
            self._ended = time.monotonic()
            self.seconds += self._ended - self._began


NUMBA = Compiling("numba", "loops", nests=True, usual=80)
JAX = Compiling("jax", "programs", nests=False)


def compiling_seconds() -> float:
    """Wall time of this process's compilations so far."""
    return NUMBA.seconds + JAX.seconds
