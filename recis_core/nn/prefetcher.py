"""Brings the rows of coming batches to the device: a thread reads batches ahead, plans them, fetches and stages rows."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Integral
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn

from recis_core.backends.errors import RecisError
from recis_core.backends.tier_loops.loop_threads import loop_threads
from recis_core.process import refuse_to_pickle
from recis_core.table.tiers import staging
from recis_core.table.tiers.planned_calls import PlannedCall, digest_of, unique_keys
from recis_core.table.tiers.tiered_state import TieredState
from recis_core.uninterrupted import as_one, uninterrupted

if TYPE_CHECKING:
    from recis_core.nn import EmbeddingEngine

LATE = 8  # batches: one yielded this many batches ago, without a forward, is given up
POLL = 0.1  # seconds between checks whether to stop, while there is no work
FORWARD_POLL = 0.0005  # seconds between checks whether a batch's forward has come


@dataclass
class _Item:
    """One batch, and its planned call to each tiered table."""

    batch: Any
    calls: list[tuple[TieredState, PlannedCall, bool]] = field(default_factory=list)
    read: bool = False
    staged: bool = False


_WAIT = _Item(None)


class Prefetcher:
    """Iterates over the reader's batches; fetches the rows of coming batches while the model computes.

    A thread reads `depth` batches ahead, gives policy "lookahead" the next use of each row, reads rows from disk, and
    stages the next batch's rows on the device; rows that make room for them are written back. Rows of a staged batch stay
    on the device until its forward. Training gives the same bits with and without a Prefetcher. Pass each batch to the
    engine's forward once, in the order yielded, and before 8 more are taken; otherwise its forward fetches the rows.

    A Prefetcher serves one pass; make another for the next. If the loop is left, batches read ahead are dropped and the
    reader is closed, after the reader has returned the batch in work, however long that takes. An error of the reader or
    of `features` is raised after the batches before it; an error of fetching at the next batch.

    Args:
      engine: its tables have a cache. Without a cache, or in eval, batches are read ahead and nothing is fetched.
      reader: batches. A generator runs on the thread.
      depth: how many batches are read ahead; 0 reads none. None: the largest `prefetch` of the tables' CacheConfig.
      threads: how many threads loops of torch and of tables take in the iterating thread during the pass. On a machine
        with few cores leave one for the reading thread: on two cores, two threads beside it wait for each other. Tables
        have the same bits at any number; torch's dense layers on Intel only with MKL_CBWR=AVX2,STRICT. None, or depth 0,
        changes nothing.
      features: from a batch to the features of the engine's forward, called on the thread; None: the batch itself.

    Attributes:
      stall_seconds: how long the loop has waited for batches.

    Raises:
      TypeError: engine is no EmbeddingEngine, depth or threads no int, features not callable, or reader not iterable.
      ValueError: depth is negative, or threads not positive.
      RecisError: ranks share the tables, so that other processes' batches use the rows, too. Or it is iterated again.
      TableFull, StorageFull: from the loop, as the forward would.
    """

    def __init__(
        self,
        engine: EmbeddingEngine,
        reader: Iterable[Any],
        depth: int | None = None,
        *,
        threads: int | None = None,
        features: Callable[[Any], Mapping[str, Any]] | None = None,
    ) -> None:
        _check_kinds(engine, depth, threads, features)
        self.engine = engine
        if depth is None:
            depth = max((state.config.prefetch for state in self._states()), default=0)
        if depth < 0:
            raise ValueError(f"depth must be at least 0 batches; got {depth}.")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1; got {threads}.")
        if depth and engine.exchange is not None:
            raise RecisError(
                "a Prefetcher knows this process's batches alone, and ranks share these tables: what their owner will be "
                "asked for is in the others' batches. Use depth=0 with more processes than one."
            )
        self.depth, self.threads = int(depth), None if threads is None else int(threads)
        self._source = iter(reader)
        self._features = features or (lambda batch: batch)
        self._window: deque[_Item] = deque()
        self._yielded: deque[_Item] = deque()
        self._asked = False  # whether the next batch is waited for
        self._changed = threading.Condition()
        self._bell: SimpleQueue[None] = SimpleQueue()  # the thread puts an item when a batch may be ready
        self._begun = self._stopped = self._ended = False
        self._error: BaseException | None = None  # of the thread, raised at once
        self._last: BaseException | None = None  # of the reader, raised after the batches before it
        self.stall_seconds = 0.0

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        refuse_to_pickle("a Prefetcher")

    def __iter__(self) -> Iterator[Any]:
        with self._changed:
            if self._begun:
                raise RecisError(
                    "a Prefetcher is iterated once, and this one has been. Make one for each pass: "
                    "`for batch in Prefetcher(engine, reader)`."
                )
            self._begun = True
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        if self.depth == 0:
            yield from self._source
            return
        thread = threading.Thread(target=self._run, name="recis-prefetcher", daemon=True)
        try:
            with uninterrupted():
                thread.start()
            with loop_threads(self.threads):
                while (item := self._next()) is not None:
                    yield item.batch
        finally:
            self._stop(thread)

    def _next(self) -> _Item | None:
        start = time.perf_counter()
        while (item := self._given()) is _WAIT:
            with suppress(Empty):
                self._bell.get(timeout=POLL)
        if item is None:
            return None
        self._stalled(time.perf_counter() - start, item)
        self._give_up_late()
        return item

    @as_one
    def _given(self) -> _Item | None:
        """The next batch; _WAIT while it is not ready, None after the last.

        Returns instead of waiting, so that signals arrive between two calls: under the lock they could leave it locked.
        """
        with self._changed:
            self._asked = True
            self._changed.notify_all()
            if not (self._error or (self._window[0].staged if self._window else self._ended)):
                return _WAIT
            self._asked = False
            if self._window and self._window[0].staged:
                item = self._window.popleft()
                self._yielded.append(item)
                self._changed.notify_all()
                return item
            if error := self._error or self._last:
                raise error
            return None

    @as_one
    def _give_up_late(self) -> None:
        """Drops the oldest planned batch without a forward, so that held rows stay bounded."""
        if len(self._yielded) > LATE:
            for state, batch, _ in self._yielded.popleft().calls:
                with state.lock:
                    state.planned_calls.leave(state.device, batch.number)

    def _stalled(self, seconds: float, item: _Item) -> None:
        self.stall_seconds += seconds
        for state, _, _ in item.calls:
            state.stats.stall_seconds += seconds / len(item.calls)

    def _stop(self, thread: threading.Thread) -> None:
        self._stopped = True  # first, for an interrupt may come at any line
        self._wake()
        try:
            if (
                thread.is_alive() and thread is not threading.current_thread()
            ):  # a dropped generator may be collected on any thread
                thread.join()
        finally:  # after an interrupt, too: a thread that still runs must not plan or stage
            self._forget()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    @as_one
    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @as_one
    def _forget(self) -> None:
        for state in self._states():
            if not state.lock.forked:
                with state.lock:
                    state.planned_calls.forget(state.device)

    def _states(self) -> list[TieredState]:
        tables = dict.fromkeys(table.physical for table in self.engine.sparse_parameters().values())
        return [state for table in tables if (state := table.storage.tiers) is not None]

    # On the thread

    def _run(self) -> None:
        from recis_core.backends.numba_backend.compiled import on_one_thread  # loads numba

        on_one_thread()
        try:
            while not self._stopped:
                if not self._work():
                    with self._changed:
                        self._changed.wait(POLL if self._forward_came() else FORWARD_POLL)
        except BaseException as error:  # raised to the loop by _given
            with self._changed:
                self._error = error
            self._bell.put(None)

    def _work(self) -> bool:
        """Do the most urgent work: stage the next batch, else plan another, else read rows from disk. False: none to do.

        A batch is staged after the forward of the batch before it, which would otherwise wait for the table's lock.
        """
        window = list(self._window)
        if window and not window[0].staged and (self._asked or self._forward_came()):
            self._stage(window[0])
        elif not self._ended and len(window) <= self.depth:
            self._plan_next()
        elif unread := next((item for item in window[1:] if not item.read), None):
            self._read(unread)
        else:
            return False
        return True

    def _forward_came(self) -> bool:
        """Whether the batch given last has had its forward."""
        given = list(self._yielded)[-1:]
        return all(batch.number <= state.planned_calls.consumed for item in given for state, batch, _ in item.calls)

    def _plan_next(self) -> None:
        try:
            item = self._planned(next(self._source))
        except StopIteration:
            self._end(None)
        except BaseException as error:
            self._end(error)
        else:
            with self._changed:
                self._window.append(item)

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            self._ended, self._last = True, error
        self._bell.put(None)

    def _planned(self, batch: Any) -> _Item:
        item = _Item(batch)
        for table, call in self.engine.training_calls(self._features(batch)):
            state = table.storage.tiers
            if state is None:
                continue
            keys, digest = unique_keys(call), digest_of(call)
            with state.lock:
                if not self._stopped:
                    planned = state.planned_calls.plan(state.device, digest, keys)
                    item.calls.append((state, planned, table.storage.gate is None))
        return item

    def _read(self, item: _Item) -> None:
        for state, batch, _ in item.calls:
            if batch.rows is None:
                staging.read_early(state, batch)
        item.read = True

    def _stage(self, item: _Item) -> None:
        for state, batch, new in item.calls:
            with state.lock:
                if batch in state.planned_calls.calls:
                    staging.stage(state, batch, new=new)
        with self._changed:
            item.read = item.staged = True
        self._bell.put(None)


def _check_kinds(engine: Any, depth: Any, threads: Any, features: Any) -> None:
    from recis_core.nn import EmbeddingEngine

    if not isinstance(engine, EmbeddingEngine):
        raise TypeError(f"engine must be an EmbeddingEngine; got {type(engine).__name__}.")
    for name, count in (("depth", depth), ("threads", threads)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, Integral)):
            raise TypeError(f"{name} must be an int or None; got {count!r}.")
    if features is not None and not callable(features):
        raise TypeError(f"features must be a function of a batch, or None; got {type(features).__name__}.")
