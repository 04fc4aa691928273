"""A stage that changes a table happens whole or not at all.

    with whole(state) as undo:
        undo.note(put, array, at, array[at].copy())     before array[at] is overwritten
        array[at] = values
        state.used += 1                                 attributes are restored without a note

The state keeps the notes until the stage ends. An exception plays them back; if that breaks off as well, the next stage
on the table does so first (`settle`). A stage takes its memory before it writes.

Sizes: n entries or rows.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from recis_core.backends import placement
from recis_core.backends.errors import TableFull
from recis_core.backends.rows_now import RowsNow, keep
from recis_core.backends.spec import Counters, TableSpec

# Messages of torch's allocators: on a CPU the error has no class of its own.
OUT_OF_MEMORY = ("can't allocate memory", "out of memory")


class Unfinished(Protocol):
    """What an interrupted stage left to do; the table's next stage does it first. May run twice."""

    def run(self, state: Any) -> None: ...


class Changing(Protocol):
    """The part of a table's state that stages change."""

    spec: TableSpec
    index: Any
    free: Any
    next_row: int
    used: int
    by_table: Any  # keys of each logical table; replaced, never written into
    counters: Counters
    unfinished: Unfinished | None
    copying: list[RowsNow]


class Undo:
    """What a stage has changed so far."""

    __slots__ = ("_by_table", "_counters", "_free", "_index", "_next_row", "_stashed", "_used", "_writes")

    def __init__(self, state: Changing) -> None:
        self._index, self._stashed = state.index, state.index.stashed
        self._free, self._next_row, self._used, self._by_table = state.free, state.next_row, state.used, state.by_table
        self._counters = Counters(*vars(state.counters).values())
        self._writes: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def note(self, put_back: Callable[..., None], *args: Any) -> None:
        """put_back(*args) takes the next write back; it may run before that write, and twice."""
        self._writes.append((put_back, args))

    def grown(self, index: Any) -> None:
        """The index grew; TableFull keeps the growth, every other exception takes it back."""
        self.note(_shrink, self, self._index, self._stashed)
        self._index, self._stashed = index, index.stashed

    def keep_growth(self) -> None:
        self._writes = [write for write in self._writes if write[0] is not _shrink]

    def run(self, state: Changing) -> None:
        for put_back, args in reversed(self._writes):
            put_back(*args)
        self._index.stashed = self._stashed
        state.index, state.free, state.next_row, state.used, state.by_table, state.counters = (
            self._index, self._free, self._next_row, self._used, self._by_table, self._counters,
        )  # fmt: skip


def _shrink(undo: Undo, index: Any, stashed: int) -> None:
    undo._index, undo._stashed = index, stashed


class Writes:
    """Writes with all their arguments, so that a later stage can finish what was broken off."""

    __slots__ = ("_writes",)

    def __init__(self, writes: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        self._writes = writes

    def run(self, state: Any) -> None:
        for write, args in self._writes:
            write(*args)


def write_all(state: Any, writes: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    """Run all of these writes; each may run several times."""
    settle(state)
    if state.copying:
        keep(state.copying, None)
    state.unfinished = Writes(writes)
    settle(state)


def settle(state: Any) -> None:
    """Finish, or take back, what an earlier stage left unfinished."""
    if state.unfinished is not None:
        state.unfinished.run(state)
        state.unfinished = None


class whole:  # noqa: N801, a context manager is used like a function
    """A stage of one table. Not to be nested.

    rows: those that change of the rows there are; None: any may. A copy that is being made keeps them first.
    """

    __slots__ = ("_rows", "_state")

    def __init__(self, state: Any, rows: Any = None) -> None:
        self._state, self._rows = state, rows

    def __enter__(self) -> Undo:
        settle(self._state)
        if self._state.copying:
            keep(self._state.copying, self._rows)
        undo = Undo(self._state)
        self._state.unfinished = undo
        return undo

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state = self._state
        if kind is None:
            state.unfinished = None
            return
        if kind is TableFull:
            state.unfinished.keep_growth()
        _take_back(state)
        if error is not None and is_out_of_memory(error):
            raise MemoryError(short_of_memory(state, state.used, error)) from error


def _take_back(state: Any) -> None:
    try:
        settle(state)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(f"no memory to take a call back; the next one on the table does so first: {error}") from error


def no_room(spec: TableSpec, new: int, used: int, stashed: int) -> TableFull:
    way_out = "step the optimizer, which unpins rows" if spec.evict else "let the table evict"
    return TableFull(
        f"{new} new ids need rows; the table has {used} in use of max_rows={spec.max_rows}, and {stashed} of "
        f"{placement.STASH} stash entries. Nothing was written. Raise max_rows, or {way_out}."
    )


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, RuntimeError):
        return any(words in str(error).lower() for words in OUT_OF_MEMORY)
    return isinstance(error, MemoryError)


def short_of_memory(state: Any, used: int, error: BaseException) -> str:
    arrays = (state.weights, *state.slots.values())
    return (
        f"no memory for what a call needs of a table of {used} rows, whose weights and slots take "
        f"{sum(array.nbytes for array in arrays) >> 20} MiB: {error}. The table is as it was before the call. "
        "Free memory, bound the table by max_rows, or let it spill to a disk."
    )
