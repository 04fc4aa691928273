"""The course of a run: windows, epochs, steps; where hooks are called, where it evaluates, saves and ends.

window ─▶ epoch ─▶ step ─▶ after_step ─▶ evaluation? ─▶ ranks agree: save? end? ─▶ step …
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from recis_core.framework.ending import Stopped
from recis_core.framework.listening import current
from recis_core.framework.micro_batches import MicroBatches, Reading
from recis_core.framework.pieces import Pieces
from recis_core.framework.read_ahead import follows_steps
from recis_core.io.windows import Windows

if TYPE_CHECKING:
    from recis_core.framework.trainer import Trainer

SIGNAL = "a signal"


def run_course(trainer: Trainer, pieces: Pieces, *, evaluate: bool) -> None:
    """evaluate: after each window, or each epoch of data without windows; and at the end.

    Raises:
      Stopped: a signal ended the run after a step, which is saved.
    """
    ending = current()
    with ending.noting(), _under_hooks(trainer, pieces):
        _Course(trainer, pieces, evaluate).run()
    ending.check(pieces.ranks.exchange)


@contextmanager
def _under_hooks(trainer: Trainer, pieces: Pieces) -> Iterator[None]:
    try:
        pieces.hooks.call("before_train")
        yield
        pieces.hooks.call("after_train")
        with pieces.timer("saving"):
            pieces.checkpoints.wait()
    except BaseException as error:
        pieces.hooks.call("on_error", error)
        raise
    finally:
        pieces.hooks.end()


class _Course:
    def __init__(self, trainer: Trainer, pieces: Pieces, evaluate: bool) -> None:
        self._trainer, self._pieces, self._evaluate = trainer, pieces, evaluate
        self._hooks, self._ranks = pieces.hooks, pieces.ranks
        self._ending = current()
        self._ending.wanted(self._ranks.exchange)  # from here on a signal's wish travels with each agreement

    def run(self) -> None:
        data = self._trainer.train_dataset
        if isinstance(data, Windows):
            self._windows(data)
        else:
            self._epochs(data)
        run = self._trainer
        if self._evaluate and run.mid_epoch and run.stopped_by != SIGNAL and run.measured_at != run.step:
            self._measure()
        if self._pieces.checkpoints.wanted(run.step):
            run.save()

    def _over(self) -> bool:
        """Whether the last step was made. What one rank knows alone is not in it: see _ended."""
        run = self._trainer
        return run.stopped_by is not None or (run.max_steps is not None and run.step >= run.max_steps)

    def _ended(self) -> bool:
        """_over, of all ranks: one may have been stopped, or have got a signal. Collective."""
        self._hear(*self._agreed(self._trainer.stopped_by is not None))
        return self._over()

    def _hear(self, stop: bool) -> None:
        run = self._trainer
        if stop:
            run.stopped_by = run.stopped_by or "another rank"
        if self._ending.wanted(self._ranks.exchange):
            run.stopped_by = SIGNAL

    def _windows(self, windows: Windows) -> None:
        run = self._trainer
        for train, test in windows:
            if windows.at < run.window:
                continue  # it was done when the checkpoint was saved
            run.epoch_in_window = run.epoch_in_window if windows.at == run.window else 0
            run.window, run.eval_dataset = windows.at, test
            run.at_end = False  # a window that is resumed at its end gives no more batches by itself
            if run.epoch_in_window and not run.mid_epoch:
                _begin_next_epoch(train)
            self._hooks.call("before_window")
            self._epochs(train)
            if run.epoch_in_window < run.args.train_epoch:
                windows.load_state_dict(self._pieces.ahead.state_dict())  # the next run begins here
                return
            if self._evaluate:
                self._measure()
            run.window, run.epoch_in_window = run.window + 1, 0
            self._hooks.call("after_window")
            if self._ended():
                return

    def _epochs(self, data: Any) -> None:
        run = self._trainer
        while run.epoch_in_window < run.args.train_epoch and not self._ended():
            self._hooks.call("before_epoch")
            if not self._epoch(data):
                return
            run.epoch, run.epoch_in_window = run.epoch + 1, run.epoch_in_window + 1
            if self._evaluate and not isinstance(run.train_dataset, Windows):
                self._measure()
            self._hooks.call("after_epoch")

    def _epoch(self, data: Iterable[Any]) -> bool:
        """Whether the end of the data was met; otherwise the next pass reads on from here."""
        run = self._trainer
        if self._ended():
            return False
        batches: Any = iter(()) if run.at_end else self._pieces.ahead.batches(data)
        run.mid_epoch = 1
        with closing(batches) if hasattr(batches, "close") else nullcontext():
            reading = self._pieces.reading(batches, run.args.gradient_accumulation_steps)
            while not self._over():
                try:
                    group = self._next(reading)
                except Stopped:
                    if self._ending.hurried:
                        raise
                    run.stopped_by = SIGNAL
                    break
                run.at_end = reading.ended
                if group is None:
                    run.at_end, run.mid_epoch = False, 0
                    return True
                run.train_on(group)
                self._after_step()
        if not run.at_end:
            self._pieces.ahead.go_on(data)
        return False

    def _next(self, reading: Reading) -> MicroBatches | None:
        """The next group. One process breaks off the wait for it on a signal, by Stopped, where no position is lost by that."""
        breaks_off = self._ranks.exchange is None and follows_steps(self._trainer.train_dataset)
        with self._pieces.timer("reading"), self._ending.noting(not breaks_off):
            if breaks_off:
                self._ending.check()
            return reading.next()

    def _after_step(self) -> None:
        run = self._trainer
        self._pieces.checkpoints.raise_failure()
        if run.args.eval_steps is not None and run.step % run.args.eval_steps == 0:
            self._measure()
        due, stop = self._agreed(self._pieces.checkpoints.due(run.step), run.stopped_by is not None)
        self._hear(stop)
        if due and self._pieces.checkpoints.wanted(run.step):
            run.save()

    def _measure(self) -> None:
        """Evaluate; but in the last of Windows(train_last=True), after which there is none to evaluate on."""
        data: Any = self._trainer.eval_dataset
        if not isinstance(self._trainer.train_dataset, Windows) or data.rows:
            self._trainer.evaluate()

    def _agreed(self, *wishes: bool) -> list[bool]:
        """Each wish, where one rank has it."""
        if self._ranks.channel is None:
            return list(wishes)
        return self._ranks.lines("trained", [int(wish) for wish in wishes]).any(0).tolist()


def _begin_next_epoch(data: Any) -> None:
    """A window that was resumed at the end of one of several passes begins the next one."""
    if getattr(data, "ended", False):
        data.set_epoch(data.state_dict()["epoch"] + 1)
