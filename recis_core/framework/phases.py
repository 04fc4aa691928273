"""Where a run's wall time goes.

|reading|forward      |backward|exchange|update|hooks    hooks|
                                               |evaluating|      a phase inside another takes its time from it
"""

from __future__ import annotations

from time import perf_counter
from types import TracebackType

PHASES = ("reading", "forward", "backward", "exchange", "update", "hooks", "saving", "evaluating")


class Phases:
    """seconds: {phase: wall seconds so far}. A phase costs two readings of the clock."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._entered: list[str] = []
        self._mark = 0.0
        self._phase_of = {name: _Phase(self, name) for name in PHASES}

    def __call__(self, name: str) -> _Phase:
        """For `with`: inside, time counts for this phase, and for no other one."""
        return self._phase_of[name]

    def _turn(self) -> None:
        now = perf_counter()
        if self._entered:
            self.seconds[self._entered[-1]] += now - self._mark
        self._mark = now


class _Phase:
    """Has no state of its own, so that one serves all entries of a phase."""

    __slots__ = ("_name", "_phases")

    def __init__(self, phases: Phases, name: str) -> None:
        self._phases, self._name = phases, name

    def __enter__(self) -> None:
        self._phases._turn()
        self._phases._entered.append(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._phases._turn()
        self._phases._entered.pop()
