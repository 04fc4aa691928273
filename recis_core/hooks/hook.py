"""Hooks: small objects that a Trainer calls at fixed places of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recis_core.hooks.run import Batch, Run, StepResult


class Hook:
    """Does something at fixed places of a run; each method does nothing unless a subclass says what.

    The order of a run, where each line may repeat:

        before_train
          before_window                            of data that comes in windows
            before_epoch
              before_step, after_backward, after_step
                before_save, after_save            where a checkpoint is saved
                before_evaluate, after_evaluate    between steps, or after an epoch or window
            after_epoch
          after_window
        after_train                                training ended as it should
        on_error                                   or by an error or a second interrupt, which is raised on
        end                                        always, last; what a hook opened is closed here

    Hooks are called in the order in which they were added, and in the opposite order in methods that begin with `after`
    and in `end`. All ranks call all hooks; a hook that prints or writes does so where run.rank is 0.
    An error in a hook ends the run, as one in the model does.
    """

    def before_train(self, run: Run) -> None: ...

    def after_train(self, run: Run) -> None: ...

    def before_window(self, run: Run) -> None: ...

    def after_window(self, run: Run) -> None: ...

    def before_epoch(self, run: Run) -> None: ...

    def after_epoch(self, run: Run) -> None: ...

    def before_step(self, run: Run, batch: Batch) -> None:
        """Before the forward of each micro-step, with this rank's batch."""

    def after_backward(self, run: Run) -> None:
        """After the last backward of a step, gradients of all ranks exchanged, before the optimizer changes anything."""

    def after_step(self, run: Run, result: StepResult) -> None:
        """After the optimizer's step; run.step counts it already."""

    def before_evaluate(self, run: Run) -> None: ...

    def after_evaluate(self, run: Run, metrics: Mapping[str, float]) -> None: ...

    def before_save(self, run: Run) -> None: ...

    def after_save(self, run: Run, path: Any) -> None:
        """After a checkpoint was handed to its writer; an asynchronous one may not be durable yet."""

    def on_error(self, run: Run, error: BaseException) -> None: ...

    def end(self, run: Run) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this hook: nested dicts, lists, scalars and tensors. Equal on all ranks."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
