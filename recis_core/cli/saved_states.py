"""Which states of --save DIR are this run's, how far it came, and an evaluation before each where the best are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.cli.run_parts import part_of_run
from recis_core.cli.saving import CheckpointFlags
from recis_core.framework import Trainer
from recis_core.hooks import Hook
from recis_core.nn.hash_table import exchange_of
from recis_core.serialize import CheckpointManager, SavedState
from recis_core.serialize.checkpoint.policies import KeepPolicy, Metrics
from recis_core.serialize.places import place_of_step, remove_checkpoint, steps_in
from recis_core.serialize.shared_state import failing_together
from recis_core.serialize.store_path import Place, place_of


class OwnSteps(KeepPolicy):
    """Keeps what another policy keeps of this run's states, and all of `others`, which have steps of their own."""

    def __init__(self, policy: KeepPolicy, others: set[int]) -> None:
        self._policy, self._others = policy, others

    def kept(self, steps: Sequence[int], metrics: Metrics) -> set[int]:
        own = {step: numbers for step, numbers in metrics.items() if step not in self._others}
        return self._policy.kept([step for step in steps if step not in self._others], own) | self._others


class SavedStates(Hook):
    """The states of one run; a hook of its Trainer. manager: None where --save is not given."""

    def __init__(self, flags: CheckpointFlags) -> None:
        self._flags = flags
        self._steps: list[int] = []  # of saves that were asked for
        self._others: set[int] = set()  # steps of another run's states, which go once this run has saved one
        self.manager: CheckpointManager | None = None
        if flags.directory is not None:
            keep = flags.keep_policy
            self.manager = CheckpointManager(
                flags.directory, save=flags.save_policy, keep=None if keep is None else OwnSteps(keep, self._others),
                asynchronous=flags.asynchronous, delta=flags.delta_policy,
            )  # fmt: skip

    def claim(self, run: Trainer, run_id: str, *, resumed: bool) -> None:
        """Collective.

        Raises:
          ValueError: the directory holds states that are not this run's, and --overwrite is not given. Nothing was changed.
        """
        if self._flags.directory is not None:
            with failing_together(exchange_of(run.model)):
                if run.rank == 0:
                    self._others |= self._of_others(place_of(self._flags.directory), run.step, run_id, resumed)

    def _of_others(self, directory: Place, step: int, run_id: str, resumed: bool) -> set[int]:
        states = {each: place_of_step(directory, each) for each in steps_in(directory)}
        later = [each for each in states if each > step]
        others = [each for each, state in states.items() if each in later or _run_id(state) != run_id]
        if others and not self._flags.overwrite:
            names = [states[each].name for each in others]
            raise ValueError(_refusal(directory, names, later == others and resumed))
        return set(others)

    def before_save(self, run: Any) -> None:
        if self._flags.best is not None and run.measured_at != run.step:
            run.evaluate()

    def after_save(self, run: Any, path: Any) -> None:
        first = not self._steps
        self._steps.append(run.step)
        self._others.discard(run.step)  # this one has replaced it
        if first and self._flags.overwrite and self.manager is not None:
            self.manager.wait()
            self._remove_others(place_of(str(self._flags.directory)))

    def _remove_others(self, directory: Place) -> None:
        for step in sorted(self._others):
            remove_checkpoint(directory, step)
        self._others.clear()

    def saved(self) -> int | None:
        """The step of the last state that this run has written, and that is whole."""
        there = [] if self.manager is None else self.manager.steps()
        return max((step for step in self._steps if step in there and step not in self._others), default=None)

    def said(self, step: int) -> str:
        """How far the run has come, and what is saved, in words."""
        if self._flags.directory is None:
            return f"after step {step}, not saved, for --save DIR was not given"
        saved = self.saved()
        if saved is None:
            return f"after step {step}; nothing was saved"
        after = f"after step {step}, " if saved != step else ""
        return f"{after}saved at step {saved}: --resume {self._flags.directory} goes on from there"


def _run_id(state: Place) -> str | None:
    """None where the state cannot be read, "" where the state has none."""
    try:
        found = part_of_run(SavedState(state), "run")
        return "" if found is None else str(found["id"])
    except (CorruptCheckpoint, KeyError, TypeError):
        return None


def _refusal(directory: Place, known: Sequence[str], later: bool) -> str:
    what = "of later steps than the one that is resumed" if later else "of another run"
    names = ", ".join(known[:3]) + ", …" * (len(known) > 3)
    on = "" if later else f"go on with that run by --resume {directory}, "
    return (
        f"--save {directory} holds states {what} ({names}); they would be mixed with this run's. "
        f"Either {on}name another directory, or give --overwrite, which removes them once this run has saved a state."
    )
