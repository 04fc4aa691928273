"""Checkpoints while a run trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from recis_core.hooks.periodic_hook import PeriodicHook
from recis_core.hooks.run import Run, StepResult


@runtime_checkable
class Manager(Protocol):
    """What the hook asks of a manager; serialize.CheckpointManager is one."""

    def due(self, step: int) -> bool: ...

    def save(self, step: int, metrics: Mapping[str, float] | None = None) -> Any: ...

    def raise_failure(self) -> None: ...

    def wait(self) -> None: ...


class CheckpointHook(PeriodicHook):
    """Saves checkpoints, and one at the end of training unless at_end is False. All ranks save.

        CheckpointHook(every_steps=1000)                         the run's own: run.save()
        CheckpointHook(manager)                                  when the manager's policy says so: manager.due(step)
        CheckpointHook(lambda run: …, every_steps=1000)          by a function

    A manager gets the metrics of an evaluation of the same step; a save that failed in the background is raised after the
    next step.

    Hooks' after_… are called in the opposite order: added first, a CheckpointHook saves what later hooks have done in that
    step, an evaluation for instance. After training, errors included, it waits until a manager's saves are durable.

    Args:
      saver: None, a manager, or a function of the run. every_steps, every_epochs, every_windows, at_end: see PeriodicHook;
        for a manager at_end alone.

    Raises:
      TypeError: saver is none of these. ValueError: a manager, and an interval beside it.
    """

    def __init__(
        self,
        saver: Manager | Callable[[Run], Any] | None = None,
        *,
        every_steps: int | None = None,
        every_epochs: int | None = None,
        every_windows: int | None = None,
        at_end: bool = True,
    ) -> None:
        self._manager = saver if isinstance(saver, Manager) else None
        if self._manager is None and saver is not None and not callable(saver):
            raise TypeError(
                "saver must be a CheckpointManager, a function of the run, or None for run.save(); got "
                f"{type(saver).__name__}."
            )
        if self._manager is not None and (every_steps, every_epochs, every_windows) != (None, None, None):
            raise ValueError(
                "a manager decides by its own policy when to save, CheckpointManager(save=…); leave out every_…."
            )
        self._save = saver if self._manager is None else None
        self._measured_at: int | None = None
        super().__init__(
            1 if self._manager is not None else every_steps,
            every_epochs=every_epochs, every_windows=every_windows, at_end=at_end,
        )  # fmt: skip

    def after_evaluate(self, run: Run, metrics: Mapping[str, float]) -> None:
        self._measured_at = run.step

    def after_step(self, run: Run, result: StepResult) -> None:
        if self._manager is not None:
            self._manager.raise_failure()
        if self._manager is None or self._manager.due(run.step):
            super().after_step(run, result)

    def act(self, run: Run) -> None:
        if self._manager is not None:
            self._manager.save(run.step, dict(run.last_metrics) if self._measured_at == run.step else None)
        elif callable(self._save):
            self._save(run)
        else:
            run.save()

    def end(self, run: Run) -> None:
        if self._manager is not None:
            self._manager.wait()
