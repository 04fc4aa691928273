"""A stage that breaks off: what is finished before the next, what is taken back, and what is lost.

Programs are given a table's arrays to write into. One that was refused, or did not compile, has taken none, and the table
is as before. One that ran has its results in the state, and what remains is done by `finish`, by this stage or the next:

    landed   new weights and slots go where they belong
    report   is counted
    sought   rows of new keys get their initial values; else they would read what other keys left there

Between the two, when a signal's exception comes between a program's end and the assignment of its results, arrays are gone.
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
        # Growth belongs to a call, as does all else it changed; a full table keeps it.
        unused = kind not in (None, TableFull) and grown is not None and grown is state.index and not _gone(grown.rows)
        state.index, state.grown = self._before if unused else state.index, None
        if error is not None and is_out_of_memory(error):
            raise MemoryError(short_of_memory(state, state.known, error)) from error


def finish(programs: Programs, state: TableState) -> None:
    """See above.

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
    """Among those that are not read yet."""
    report, sought = state.report, state.sought
    if report is not None:
        state.reports, state.report = (*state.reports, (report, state.incoming)), None
    if sought is not None and sought.report is not None:
        noted = sought._replace(report=None)
        state.reports, state.sought = (*state.reports, (sought.report, state.incoming)), noted


def begin_new(programs: Programs, state: TableState) -> None:
    """Write what new rows begin as; harmless if done again."""
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
    """A lost table is an empty one from now on; what it has counted it keeps."""
    new = create_state(state.spec, state.device)
    add_slots(new, tuple(state.slot_specs.values()))
    new.ladder, new.counters = state.ladder, replace(state.counters, rows=0, stashed=0)
    vars(state).update(vars(new))
