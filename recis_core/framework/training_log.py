"""A run's log: mean loss, AUC, rows/s and what caches did, every so many steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from recis_core.exchange.gathering import gathered
from recis_core.framework.cache_window import CacheWindow
from recis_core.framework.log_window import Logged, LogWindow, WallClock
from recis_core.framework.window_auc import WindowAUC
from recis_core.hooks import Hook, Run, StepResult
from recis_core.nn.hash_table import exchange_of

if TYPE_CHECKING:
    from recis_core.framework.trainer import Trainer

AUC = "auc"  # its name among a Trainer's train_metrics


class TrainingLog(Hook):
    """Calls on_log with a Logged after each `log_steps` of a run, and at the end of training for the steps that are left.

    A checkpoint keeps the sums, so that a resumed run tells the same loss and AUC as an undisturbed one; rates are of this
    process. Evaluations are left out of them.

    Args:
      run: a Trainer whose train_metrics are {AUC: auc}. on_log: called on each rank.

    trained_rows: of all ranks in this process. seconds, compile_seconds: of training in this process, up to the end of the
    last step, reader included; how many of them this rank compiled loops or programs.
    """

    def __init__(self, run: Trainer, auc: WindowAUC, on_log: Callable[[Logged], None]) -> None:
        self._run, self._auc, self._on_log = run, auc, on_log
        exchange = exchange_of(run.model)
        self._channel = None if exchange is None else exchange.channel
        self._clock = WallClock()
        self._window, self._caches = LogWindow(self._clock), CacheWindow(run.model)
        self.trained_rows = 0

    @property
    def rows(self) -> int:
        """Of the run so far, those before a resumption included."""
        return self._run.rows

    @property
    def seconds(self) -> float:
        return self._clock.seconds

    @property
    def compile_seconds(self) -> float:
        return self._clock.compiling

    @property
    def rows_per_s(self) -> float:
        return self.trained_rows / self.seconds if self.seconds else 0.0

    def begin(self) -> None:
        """Start the clock before the first batch is read; otherwise the first step does."""
        self._clock.run()

    def pause(self) -> None:
        """Stop the clock until the next step or begin()."""
        self._clock.pause()

    def before_train(self, run: Run) -> None:
        self._clock.run()

    def before_step(self, run: Run, batch: Any) -> None:
        self._clock.run()

    def after_step(self, run: Run, result: StepResult) -> None:
        self.trained_rows += result.rows
        self._window.add(result)
        self._clock.read()
        if AUC in result.metrics:
            self._tell(run.step, result.metrics[AUC])

    def before_evaluate(self, run: Run) -> None:
        self.pause()

    def after_evaluate(self, run: Run, metrics: Mapping[str, float]) -> None:
        self._clock.run()

    def after_train(self, run: Run) -> None:
        self.flush()

    def end(self, run: Run) -> None:
        self.pause()

    def flush(self) -> None:
        """Tell of the steps since the last log, if there are any. Collective."""
        if self._window.steps:
            if self._channel is not None:
                channel = self._channel
                self._auc.reduce(lambda part: gathered(channel, part, kind="log"))
            area = self._auc.compute()
            self._auc.reset()
            self._tell(self._run.step, area)

    def _tell(self, step: int, area: float) -> None:
        window, self._window = self._window, LogWindow(self._clock)
        self._on_log(window.logged(step, area, self._auc.note, self._caches.since_last()))

    def state_dict(self) -> dict[str, Any]:
        return self._window.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._window.load_state_dict(state)
