"""The base of hooks that act from time to time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recis_core.hooks.arguments import check_count
from recis_core.hooks.hook import Hook
from recis_core.hooks.run import Run, StepResult


class PeriodicHook(Hook):
    """Calls `act` after every so many steps, epochs or windows, and at the end of training; at most once a step.

    Collective: all ranks act, after the same step.

    Args:
      every_steps, every_epochs, every_windows: counted from the begin of the run, resumed ones included; None: not so.
      at_end: whether training that ends as it should ends with an act.

    Raises:
      TypeError, ValueError: an argument is no count; or there is nothing after which to act.
    """

    def __init__(
        self,
        every_steps: int | None = None,
        *,
        every_epochs: int | None = None,
        every_windows: int | None = None,
        at_end: bool = True,
    ) -> None:
        self._every = {"steps": every_steps, "epochs": every_epochs, "windows": every_windows}
        for name, every in self._every.items():
            if every is not None:
                check_count(f"every_{name}", every)
        if not at_end and all(every is None for every in self._every.values()):
            raise ValueError(f"{type(self).__name__} needs every_steps, every_epochs, every_windows or at_end=True.")
        self.at_end = at_end
        self._acted_at: int | None = None

    def act(self, run: Run) -> None:
        """What the hook does."""

    def after_step(self, run: Run, result: StepResult) -> None:
        self._act_if("steps", run.step, run)

    def after_epoch(self, run: Run) -> None:
        self._act_if("epochs", run.epoch, run)

    def after_window(self, run: Run) -> None:
        self._act_if("windows", run.window, run)

    def after_train(self, run: Run) -> None:
        if self.at_end:
            self._act_once(run)

    def _act_if(self, what: str, done: int, run: Run) -> None:
        every = self._every[what]
        if every is not None and done % every == 0:
            self._act_once(run)

    def _act_once(self, run: Run) -> None:
        if self._acted_at != run.step:
            self._acted_at = run.step
            self.act(run)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._acted_at is None else {"acted_at": self._acted_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._acted_at = state.get("acted_at")
