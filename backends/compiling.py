"""Log lines, at INFO of this module's logger, while loops or programs are compiled.

Compilations come in bursts: most in the first step, some when a table grows or a batch has another size. A burst logs a
line at its begin and one every few seconds. Loading from a cache on disk is no compilation.
"""

from __future__ import annotations

import logging
import time

LOG = logging.getLogger(__name__)
APART = 2.0  # seconds without compilation that end a burst
EVERY = 2.0  # seconds between lines of a burst


class Compiling:
    """Of one compiler: `seconds` spent so far, and the `count` of compilations.

    nests: a compilation may begin inside another; else the begin of one is the end of the last, even of a failed one.
    usual: roughly how many a first step needs; None where that depends on sizes.
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
        """A compilation of `name` begins.

        opening: the first line of a burst. news: another opening starts a new burst at once.
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
        """The compilation that began last ends."""
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
