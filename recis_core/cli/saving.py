"""What `recis train --save DIR` writes, and which states of DIR are this run's.

A state has the flags in its part "settings", and what other commands need beside them in "run":

    id          of the run, which --resume takes over
    features    what the model takes: Source.features
    data        what the files were: data_files.py
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.cli.flags import flag, named, plain_errors
from recis_core.cli.outset import check_writable
from recis_core.framework import TrainLoop
from recis_core.serialize import SavedState, save_shared_state, save_state
from recis_core.serialize.shared_state import failing_together
from recis_core.serialize.state_directory import remove_state, state_path, states_in, step_of

Run = dict[str, Any]


def new_run(features: dict[str, Any], data: Any) -> Run:
    return {"id": uuid.uuid4().hex, "features": features, "data": data}


@plain_errors
@dataclass(frozen=True, kw_only=True)
class CheckpointFlags:
    """Saved states."""

    directory: Annotated[str | None, named("save")] = None
    """Directory for saved states, each whole and committed by a rename."""
    every: Annotated[int | None, Field(ge=1), named("save_every")] = None
    """With --save: steps between states; default: only at the end."""
    keep: Annotated[int | None, Field(ge=1)] = None
    """With --save: keep the newest so many states, by step, and remove older ones; default: all."""
    overwrite: bool = False
    """With --save: a directory that holds another run's states may be taken; they are removed once this run has
    saved one."""

    def __post_init__(self) -> None:
        for keyword, value in (("save_every", self.every), ("keep", self.keep), ("overwrite", self.overwrite or None)):
            if value is not None and self.directory is None:
                raise ValueError(f"{flag(keyword)} needs --save DIR.")

    def check_here(self) -> None:
        if self.directory is not None:
            check_writable("save", self.directory)


class Saver:
    """Saves states of one run where --save is given.

    Args:
      settings: the run's flags, which a state holds. resumed: whether the run goes on from a state.

    saved: the step of the last state it wrote; None before.

    Raises:
      ValueError: --save holds states that are not this run's, and --overwrite is not given. Nothing was changed.
    """

    def __init__(
        self, flags: CheckpointFlags, loop: TrainLoop, run: Run, settings: dict[str, Any], *, resumed: bool = False
    ) -> None:
        self._flags, self._loop, self._run, self._settings, self._resumed = flags, loop, run, settings, resumed
        self.saved: int | None = None
        self._others: list[Path] = []  # removed once this run has saved a state
        if flags.directory is not None:
            with failing_together(loop.exchange):
                if loop.rank == 0:
                    self._others = self._states_of_others(Path(flags.directory))

    def _states_of_others(self, directory: Path) -> list[Path]:
        states = states_in(directory) if directory.is_dir() else []
        later = [state for state in states if (step_of(state) or 0) > self._loop.step]
        others = [state for state in states if state in later or _run_id(state) != self._run["id"]]
        if others and not self._flags.overwrite:
            raise ValueError(_refusal(directory, others, later == others and self._resumed))
        return others

    def after_step(self) -> None:
        every = self._flags.every
        if every is not None and self._loop.step % every == 0:
            self.save()

    def save(self) -> None:
        """Save the state of this step, unless that was done. Collective."""
        if self._flags.directory is None or self.saved == self._loop.step:
            return
        loop, shared = self._loop, self._shared()
        if loop.exchange is None:
            save_state(self._flags.directory, loop.step, shared | loop.own_state())
        else:
            save_shared_state(self._flags.directory, loop.step, shared, loop.own_state(), loop.exchange)
        self.saved = loop.step
        if loop.rank == 0:
            self._remove_old(Path(self._flags.directory))

    def _shared(self) -> dict[str, Any]:
        return {"settings": self._settings, "run": self._run, **self._loop.shared_state()}

    def _remove_old(self, directory: Path) -> None:
        just_made = state_path(directory, self._loop.step)
        for state in self._others:
            if state != just_made:
                remove_state(state)
        self._others = []
        if self._flags.keep is not None:
            for state in states_in(directory)[: -self._flags.keep]:
                remove_state(state)

    @property
    def said(self) -> str:
        """How far the run has come, and what is saved, in words."""
        step = self._loop.step
        if self._flags.directory is None:
            return f"after step {step}, not saved, for --save DIR was not given"
        if self.saved is None:
            return f"after step {step}; nothing was saved"
        after = f"after step {step}, " if self.saved != step else ""
        return f"{after}saved at step {self.saved}: --resume {self._flags.directory} goes on from there"


def _run_id(state: Path) -> str | None:
    """None where the state cannot be read, "" where the state has none."""
    try:
        saved = SavedState(state)
        return str(saved["run"]["id"]) if "run" in saved else ""
    except (CorruptCheckpoint, KeyError, TypeError):
        return None


def _refusal(directory: Path, others: list[Path], later: bool) -> str:
    what = "of later steps than the one that is resumed" if later else "of another run"
    names = ", ".join(state.name for state in others[:3]) + ", …" * (len(others) > 3)
    on = "" if later else f"go on with that run by --resume {directory}, "
    return (
        f"--save {directory} holds states {what} ({names}); they would be mixed with this run's. "
        f"Either {on}name another directory, or give --overwrite, which removes them once this run has saved a state."
    )
