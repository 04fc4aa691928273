"""Checkpoints of a run, by a manager that decides when and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from recis_core.backends.errors import RecisError
from recis_core.framework.training_arguments import TrainingArguments
from recis_core.serialize import CheckpointManager, EverySteps, KeepBest, KeepLast, KeepPolicy, open_checkpoint


class Manager(Protocol):
    """What a Trainer asks of a manager; serialize.CheckpointManager is one. Each method but due is collective."""

    @property
    def register(self) -> Callable[..., Any]: ...

    @property
    def restore(self) -> Callable[..., Any]: ...

    def due(self, step: int) -> bool: ...

    def save(self, step: int, metrics: Mapping[str, float] | None = None) -> Any: ...

    def wait(self) -> None: ...

    def raise_failure(self) -> None: ...


def manager_of(args: TrainingArguments, given: Manager | None, group: Any) -> Manager | None:
    """The manager that was given, or one of args.output_dir; None where there is neither. group: the ranks' process group.

    Raises:
      ValueError: there are both.
    """
    if args.output_dir is None:
        return given
    if given is not None:
        raise ValueError("checkpoints go where the CheckpointManager says, or to output_dir; give one of the two.")
    keep: KeepPolicy = KeepLast(args.max_to_keep)
    if args.metric_for_best is not None:
        keep |= KeepBest(args.metric_for_best, mode="max" if args.greater_is_better else "min")
    return CheckpointManager(args.output_dir, save=EverySteps(args.save_steps), keep=keep, pg=group)


class Checkpointing:
    """Args:
      manager: None saves nothing, and `save` and `restore` raise. parts: what it keeps; parts that are None are left out.
      group: the ranks' process group.

    saved_at: the step of the last save in this process, or of the restored one; None before.
    """

    saved_at: int | None

    def __init__(self, manager: Manager | None, parts: Mapping[str, Any], group: Any = None) -> None:
        self._manager, self.saved_at, self._group = manager, None, group
        self._parts = {name: part for name, part in parts.items() if part is not None}
        if manager is not None:
            manager.register(**self._parts)

    def wanted(self, step: int) -> bool:
        """Whether there are checkpoints, and none of this step yet."""
        return self._manager is not None and self.saved_at != step

    def due(self, step: int) -> bool:
        """By the manager's policy, which may differ from rank to rank where it goes by the clock."""
        return self._manager is not None and self._manager.due(step)

    def save(self, step: int, metrics: Mapping[str, float] | None) -> Any:
        path = self._given().save(step, metrics)
        self.saved_at = step
        return path

    def restore(self, step: int | None, how: Mapping[str, Any]) -> Any:
        restored = self._given().restore(step, **how)
        if restored is not None:
            self.saved_at = restored.step
        return restored

    def restore_from(self, path: Any, how: Mapping[str, Any]) -> Any:
        """Of a checkpoint elsewhere, or the latest of a directory; by a manager of its own, which saves nothing."""
        found = open_checkpoint(path)
        elsewhere = CheckpointManager(found.path, save=None, keep=None, pg=self._group)
        elsewhere.register(**self._parts)
        try:
            restored = elsewhere.restore(sources=[found.path], **how)
            return None if restored is None else replace(restored, step=found.step)
        finally:
            elsewhere.close()

    def raise_failure(self) -> None:
        """Raise what a save in the background failed by."""
        if self._manager is not None:
            self._manager.raise_failure()

    def wait(self) -> None:
        """Until all saves are durable; raises what failed."""
        if self._manager is not None:
            self._manager.wait()

    def _given(self) -> Manager:
        if self._manager is None:
            raise RecisError(
                "this Trainer has no checkpoints; give it TrainingArguments(output_dir=…), or a CheckpointManager: "
                "Trainer(…, checkpoints=…)."
            )
        return self._manager
