"""What `recis train --save DIR` writes, and which states of DIR are this run's.

A state's part "run" says what another command needs beside the flags, which are in "settings":

    id          of the run, which --resume takes over
    features    what the model takes: Source.features
    data        what the files were: data_files.py
"""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path
from typing import Any

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.cli.train_config import TrainConfig
from recis_core.framework import TrainLoop
from recis_core.serialize import SavedState, save_shared_state, save_state
from recis_core.serialize.shared_state import failing_together
from recis_core.serialize.state_directory import remove_state, state_path, states_in, step_of

Run = dict[str, Any]


def new_run(features: dict[str, Any], data: Any) -> Run:
    return {"id": uuid.uuid4().hex, "features": features, "data": data}


class Saver:
    """Saves states of one run where --save is given.

    saved: the step of the last state it wrote; None before.

    Raises:
      ValueError: --save holds states that are not this run's, and --overwrite is not given. Nothing was changed.
    """

    def __init__(self, config: TrainConfig, loop: TrainLoop, run: Run) -> None:
        self._config, self._loop, self._run = config, loop, run
        self.saved: int | None = None
        self._others: list[Path] = []  # which go when the first state of this run is there
        if config.save is not None:
            with failing_together(loop.exchange):
                if loop.rank == 0:
                    self._others = self._states_of_others(Path(config.save))

    def _states_of_others(self, directory: Path) -> list[Path]:
        states = states_in(directory) if directory.is_dir() else []
        later = [state for state in states if (step_of(state) or 0) > self._loop.step]
        others = [state for state in states if state in later or _run_id(state) != self._run["id"]]
        if others and not self._config.overwrite:
            raise ValueError(_refusal(directory, others, later == others and self._config.resume is not None))
        return others

    def after_step(self) -> None:
        every = self._config.save_every
        if every is not None and self._loop.step % every == 0:
            self.save()

    def save(self) -> None:
        """The state of this step, unless it is there. Collective."""
        if self._config.save is None or self.saved == self._loop.step:
            return
        loop, shared = self._loop, self._shared()
        if loop.exchange is None:
            save_state(self._config.save, loop.step, shared | loop.own_state())
        else:
            save_shared_state(self._config.save, loop.step, shared, loop.own_state(), loop.exchange)
        self.saved = loop.step
        if loop.rank == 0:
            self._remove_old(Path(self._config.save))

    def _shared(self) -> dict[str, Any]:
        return {"settings": dataclasses.asdict(self._config), "run": self._run, **self._loop.shared_state()}

    def _remove_old(self, directory: Path) -> None:
        just_made = state_path(directory, self._loop.step)
        for state in self._others:
            if state != just_made:
                remove_state(state)
        self._others = []
        if self._config.keep is not None:
            for state in states_in(directory)[: -self._config.keep]:
                remove_state(state)

    @property
    def said(self) -> str:
        """How far the run has come, and where that is saved."""
        step = self._loop.step
        if self._config.save is None:
            return f"after step {step}, not saved, for --save DIR was not given"
        if self.saved is None:
            return f"after step {step}; nothing was saved"
        after = f"after step {step}, " if self.saved != step else ""
        return f"{after}saved at step {self.saved}: --resume {self._config.save} goes on from there"


def _run_id(state: Path) -> str | None:
    """None of one that cannot be read; "" of one without."""
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
