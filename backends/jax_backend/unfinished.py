"""A stage that breaks off: what the next stage finishes, what is taken back, and what is lost.

A table's arrays are donated to programs. A program that was refused, or did not compile, has taken none: the table is as
before. The results of a program that ran are in the state, and `finish` does the rest, in this stage or the next:

    landed   new weights and slots replace the old ones
    report   is queued
    sought   rows of new keys get their initial values, for they still hold other keys'

A signal's exception between a program's end and the assignment of its results loses the arrays: TableLost.
"""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

import jax

from recis_core.backends.errors import TableFull, TableLost
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.state import WEIGHTS, TableState, add_slots, create_state
from recis_core.backends.whole import is_out_of_memory, short_of_memory


class whole:  # noqa: N801, a context manager is used like a function
    """A stage of one table."""

    __slots__ = ("_before", "_programs", "_state")

    def __init__(self, programs: Programs, state: TableState) -> None:
        self._programs, self._state = programs, state

    def __enter__(self) -> None:
        finish(self._programs, self._state)
        self._before = self._state.index

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state, grown = self._state, self._state.grown
        # A call that breaks off takes its growth back, as all else it changed; TableFull keeps the growth.
        unused = kind not in (None, TableFull) and grown is not None and grown is state.index and not _gone(grown.rows)
        state.index, state.grown = self._before if unused else state.index, None
        if error is not None and is_out_of_memory(error):
            raise MemoryError(short_of_memory(state, state.known, error)) from error


def finish(programs: Programs, state: TableState) -> None:
    """Do what an earlier stage left to do.

    Raises:
      TableLost: arrays of the table are gone.
    """
    land(state)
    note_report(state)
    check_alive(state)
    begin_new(programs, state)


def land(state: TableState) -> None:
    if state.landed is not None:
        arrays = {WEIGHTS: state.weights, **state.slots, **dict(zip(state.landing, state.landed, strict=True))}
        weights = arrays.pop(WEIGHTS)
        state.weights, state.slots, state.landed = weights, arrays, None


def note_report(state: TableState) -> None:
    """Queue the last call's report among the unread ones."""
    report, sought = state.report, state.sought
    if report is not None:
        state.reports, state.report = (*state.reports, (report, state.incoming)), None
    if sought is not None and sought.report is not None:
        noted = sought._replace(report=None)
        state.reports, state.sought = (*state.reports, (sought.report, state.incoming)), noted


def begin_new(programs: Programs, state: TableState) -> None:
    """Write the initial values of new rows; may run twice."""
    if state.sought is None:
        return
    if state.sought.new is not None:
        state.landing, initials = tuple(state.slots), state.slot_initials
        state.weights, state.landed = programs.write_initial(
            state.weights, state.slot_arrays, state.constants, state.sought.new, slot_initials=initials
        )
        land(state)
    state.sought = None


def check_alive(state: TableState) -> None:
    if is_lost(state):
        raise TableLost(
            f"the arrays of a table of {state.known} rows went with a call that an exception broke off: JAX had been "
            "given them to write into. Load the last saved state into it, or clear it; both work."
        )


def is_lost(state: TableState) -> bool:
    return _gone(state.index.rows) or _gone(state.weights) or any(map(_gone, state.slots.values()))


def _gone(array: jax.Array) -> bool:
    return array.is_deleted()


def revive(state: TableState) -> None:
    """Make a lost table an empty one; its counters stay."""
    new = create_state(state.spec, state.device)
    add_slots(new, tuple(state.slot_specs.values()))
    new.ladder, new.counters = state.ladder, replace(state.counters, rows=0, stashed=0)
    vars(state).update(vars(new))
