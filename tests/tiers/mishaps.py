"""Exceptions at chosen instants of what a table in tiers does, and what may come of them: all of it, or nothing.

A twin without tiers does the same; where a call broke off, it does it too or does not, whichever is found.
"""

from __future__ import annotations

import linecache
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import numpy as np

from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption, Prefetcher
from recis_core.optim import SparseAdagrad
from recis_core.uninterrupted import uninterrupted
from tests.dropped import later_if_dropped
from tests.tiers.training import D, held, tiers_of
from tests.training.loop import Batch, loss_of

OURS = ("recis_core/table/tiers/", "recis_core/table/disk/")


class FailsAt:
    """MemoryError at the k-th line of the tiers' code that runs inside, once; which one, if so many ran. 0: none."""

    def __init__(self, line: int) -> None:
        self.line, self.lines, self.where = line, 0, ""
        self.before: dict[FrameType, int] = {}

    def __enter__(self) -> FailsAt:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        self.before.clear()

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._step if any(part in frame.f_code.co_filename for part in OURS) else None

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and not self._cannot_raise(frame):
            self.lines += 1
            if self.lines == self.line:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise MemoryError("injected")
        return self._step

    def _cannot_raise(self, frame: FrameType) -> bool:
        """At a `try:`, or back at a section's `with`. An exception there would pass by the section's end; only a tracer
        has any.
        """
        before, self.before[frame] = self.before.get(frame, 0), frame.f_lineno
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        return line == "try:" or (frame.f_lineno < before and line.startswith("with "))


class Interrupt(BaseException):
    """As KeyboardInterrupt, and nobody else's."""


class Interrupted:
    """Interrupt by a signal some time after the beginning, if what is inside takes as long."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.where = seconds, ""

    def __enter__(self) -> Interrupted:
        signal.signal(signal.SIGALRM, self._stop)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        return self

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if later_if_dropped(frame):
            return
        self.where = "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        raise Interrupt

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def handler_kept() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


COUNTERS = ("found", "inserted", "unknown", "erased", "rows")


def contents(engine: EmbeddingEngine, names: tuple[str, ...] = COUNTERS) -> dict[str, Any]:
    """What the table is: rows, slots, uses and counters."""
    table = engine.table("f")
    snapshot, counters = table.snapshot(), table.physical.counters()
    marks = table.physical.storage.marks()
    found = {"ids": snapshot.ids, "weights": snapshot.weights, **snapshot.slots, "scores": marks.scores}
    arrays = {
        name: values.float().numpy() if values.is_floating_point() else values.numpy() for name, values in found.items()
    }
    return arrays | {name: getattr(counters, name) for name in names}


def differing(got: dict[str, Any], want: dict[str, Any]) -> list[str]:
    return [name for name in want if not np.array_equal(got[name], want[name])]


class Twins:
    """An engine in tiers, and one without, that do the same."""

    def __init__(self, cache: CacheConfig, backend: str, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.ids = np.random.default_rng(seed)
        self.engines = [self._engine(backend, each) for each in (cache, None)]
        self.tiered, self.plain = self.engines
        self.optimizers = [SparseAdagrad(engine.sparse_parameters(), lr=0.05) for engine in self.engines]
        self.happened = [0, 0]
        self.counters = COUNTERS

    @staticmethod
    def _engine(backend: str, cache: CacheConfig | None) -> EmbeddingEngine:
        option = EmbeddingOption(D, device="cpu", backend=backend, block_size=64, cache=cache, filter_hook="lfu(1)")
        return EmbeddingEngine({"f": option})

    def batch(self) -> Batch:
        import torch

        return {"f": torch.from_numpy((self.ids.random(16) ** 2 * 300).astype(np.int64))}

    def both(self, call: Callable[[EmbeddingEngine], Any]) -> list[Any]:
        return [call(engine) for engine in self.engines]

    def tried(self, call: Callable[[EmbeddingEngine], Any], mishap: Any) -> Any:
        """In the tiers, with a mishap, and in the twin: what it gave, None if it broke off. It happened then, or it did not."""
        before = contents(self.plain, self.counters)
        try:
            with mishap:
                result = call(self.tiered)
        except (MemoryError, Interrupt):
            result = None
            self.tiered.train()  # which `_read` may not have come to
        theirs = call(self.plain)
        after = contents(self.plain, self.counters)
        got = contents(self.tiered, self.counters)
        if result is not None:
            assert differing(got, after) == [], (mishap.where, differing(got, after))
            return result, theirs
        self.check(got, before, after, mishap.where)
        if differing(got, after):
            self.happened[0] += 1
            result = call(self.tiered)
            got = contents(self.tiered, self.counters)
            assert differing(got, after) == [], (mishap.where, "done again", differing(got, after))
            return result, theirs
        self.happened[1] += 1
        return None

    def check(self, got: Any, before: Any, after: Any, where: str) -> None:
        assert [] in (differing(got, before), differing(got, after)), (
            where,
            differing(got, before),
            differing(got, after),
        )

    def same(self) -> None:
        got, want = self.both(lambda engine: contents(engine, self.counters))
        assert differing(got, want) == []

    def step(self, mishaps: Callable[[], Any], batch: Batch | None = None) -> None:
        """Forward, backward and step, one of them with a mishap; a forward that came and broke off has no backward."""
        batch = self.batch() if batch is None else batch
        outputs = self.tried(lambda engine: engine(batch), mishaps())
        if outputs is None:
            outputs = self.both(lambda engine: engine(batch))
        for out in outputs:
            loss_of(out).backward()
        self.tried(_stepped, mishaps())
        self.both(lambda engine: optimizer_of(engine).zero_grad())
        self.same()

    def others(self, mishaps: Callable[[], Any]) -> None:
        """What else a table does."""
        ids = self.batch()["f"].unique()
        rows = self.tiered.table("f").physical
        some = ids[:5]
        values = ids[5:9].float()[:, None].repeat(1, D)
        call = self.random.choice(
            [
                lambda engine: engine.table("f").physical.erase(some, 0) or True,
                lambda engine: engine.table("f").insert(ids[5:9], values) or True,
                lambda engine: engine.flush() or True,
                lambda engine: _read(engine, self.now),
                lambda engine: _resized(engine, rows, self.random) or True,
            ]
        )
        self.now = self.batch()
        self.tried(call, mishaps())


def _read(engine: EmbeddingEngine, batch: Batch) -> Any:
    engine.eval()
    try:
        return engine(batch)
    finally:
        engine.train()


def _stepped(engine: EmbeddingEngine) -> bool:
    optimizer_of(engine).step()
    return True


def optimizer_of(engine: EmbeddingEngine) -> Any:
    return engine.table("f").physical.optimizer


def _resized(engine: EmbeddingEngine, tiered: Any, rng: random.Random) -> None:
    if engine.table("f").physical is tiered:
        state = tiers_of(engine)
        with uninterrupted(), state.lock:  # as a step is, which resizes
            state.resize(rng.choice([8, 9, 12]))


def disturbed_by_lines(twins: Twins, count: int, first: int = 1, apart: int = 1) -> None:
    """A mishap each at another line; then some without."""
    for k in range(count):
        line = first + k * apart
        mishaps = iter([FailsAt(line), FailsAt(line)])
        if k % 3 < 2:
            twins.step(lambda: next(mishaps))  # noqa: B023, used at once
        else:
            twins.others(lambda: next(mishaps))  # noqa: B023, used at once
    for _ in range(3):
        twins.step(lambda: FailsAt(0))


def disturbed_by_signals(twins: Twins, count: int, seconds: float) -> None:
    with handler_kept():
        for k in range(count):
            do = twins.step if k % 3 < 2 else twins.others
            do(lambda: Interrupted(twins.random.uniform(1e-5, seconds)))
        for _ in range(3):
            twins.step(lambda: FailsAt(0))


def disturbed_ahead(twins: Twins, passes: int, mishaps: Callable[[], Any]) -> None:
    """Batches of a Prefetcher; a mishap while one is waited for ends the pass."""
    with handler_kept():
        for _ in range(passes):
            # Rows that were made ahead of a call that never comes are inserted, too.
            twins.counters = ("found", "unknown", "erased", "rows")
            ahead = iter(Prefetcher(twins.tiered, [twins.batch() for _ in range(6)], depth=2))
            with suppress(MemoryError, Interrupt):
                while True:
                    with mishaps():
                        batch = next(ahead, None)
                    if batch is None:
                        break
                    twins.step(mishaps, batch)
            ahead.close()
            assert held(twins.tiered) == 0
            twins.same()
        for thread in [t for t in threading.enumerate() if t.name == "recis-prefetcher"]:
            thread.join(60)  # an interrupt may have come while it was waited for
            assert not thread.is_alive()
        for _ in range(3):
            twins.step(lambda: FailsAt(0))
