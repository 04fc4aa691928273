"""Where a run begins: anew, at a saved run's step (--resume), or with a saved run's tables and weights (--init-from)."""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from recis_core.backends.errors import StateMismatch
from recis_core.cli import torchrun
from recis_core.cli.flags import plain_errors
from recis_core.cli.outset import find_state
from recis_core.cli.run_parts import part_of_run
from recis_core.cli.same_run import check_data, check_same_model, check_settings
from recis_core.cli.saving import Run
from recis_core.framework import Trainer
from recis_core.framework.saved_loops import load_learned, resume_trainer
from recis_core.nn.hash_table import exchange_of
from recis_core.serialize import SavedState, latest_shared_state, latest_state
from recis_core.serialize.shared_state import failing_together
from recis_core.serialize.store_path import Place


@plain_errors
@dataclass(frozen=True, kw_only=True)
class StartFlags:
    """Where the run begins; by default with nothing."""

    resume: str | None = None
    """A directory or URL given to --save: go on from its latest state, of any number of processes."""
    resume_if_any: bool = False
    """With --resume: begin anew where the directory holds no state yet, so that one command serves the first
    start and every restart (torchrun --max-restarts)."""
    init_from: str | None = None
    """A directory or URL given to --save: begin a new run, on these rows or others, with the tables, dense weights and
    optimizer of its latest state."""
    fresh_optimizer: bool = False
    """With --init-from: begin with tables and dense weights alone."""

    def __post_init__(self) -> None:
        if self.resume_if_any and self.resume is None:
            raise ValueError("--resume-if-any needs --resume DIR.")
        if self.resume is not None and self.init_from is not None:
            raise ValueError("--resume goes on with a run, --init-from begins a new one; give one of the two.")
        if self.fresh_optimizer and self.init_from is None:
            raise ValueError("--fresh-optimizer needs --init-from DIR; a run that is resumed goes on with its own.")

    def check_here(self) -> None:
        if not torchrun.is_first():  # the others may not see its disk
            return
        try:
            if self.resume is not None:
                find_state("resume", self.resume)
        except FileNotFoundError:
            if not self.resume_if_any:
                raise
        if self.init_from is not None:
            find_state("init_from", self.init_from)


def begin(start: StartFlags, trainer: Trainer, run: Run, settings: dict[str, Any]) -> None:
    """Load the state that the flags name; a resumed run keeps its id. Collective.

    settings: all flags of this run by keyword.
    """
    if start.resume is not None:
        _resume(start, trainer, run, settings)
    elif start.init_from is not None:
        _init(start, trainer, run, settings)
    for group in trainer.optimizer.param_groups:
        group["lr"] = group["lr"] if settings["lr"] is None else settings["lr"]


def _resume(start: StartFlags, trainer: Trainer, run: Run, settings: dict[str, Any]) -> None:
    directory = str(start.resume)
    path = _latest(directory, trainer, start.resume_if_any)
    if path is None:
        return
    with failing_together(exchange_of(trainer.model)):
        state = SavedState(path)
        check_settings(settings, state, directory)
        saved = part_of_run(state, "run") or {}  # older states have none
        check_data(saved, run, directory)
    if state.has_tables:
        trainer.restore(path=path)
    else:
        resume_trainer(trainer, state)
    run["id"] = saved.get("id", "")


def _init(start: StartFlags, trainer: Trainer, run: Run, settings: dict[str, Any]) -> None:
    path = _latest(str(start.init_from), trainer, False)
    with failing_together(exchange_of(trainer.model)):
        state = SavedState(path)  # type: ignore[arg-type]
        check_same_model(settings, state, run)
        _check_same_optimizer(start, settings, state)
    try:
        if state.has_tables:
            optimizer = () if start.fresh_optimizer else ("optimizer",)
            trainer.restore(path=path, load=("tables", "dense", *optimizer), slots=not start.fresh_optimizer)
        else:
            load_learned(state, trainer.model, trainer.optimizer, fresh=start.fresh_optimizer)
    except StateMismatch as error:
        raise StateMismatch(f"{error} {_way_out(start)}") from error


def _check_same_optimizer(start: StartFlags, settings: dict[str, Any], state: SavedState) -> None:
    before = part_of_run(state, "settings")
    if before is not None and not start.fresh_optimizer and before["optimizer"] != settings["optimizer"]:
        raise StateMismatch(
            f"the run in {state.path} has --optimizer {before['optimizer']}, not {settings['optimizer']}. {_way_out(start)}"
        )


def _way_out(start: StartFlags) -> str:
    if start.fresh_optimizer:
        return "--init-from needs a run of the same --model, --dim and columns."
    return (
        "--init-from needs a run of the same --model, --dim, columns and --optimizer; of another optimizer it takes "
        "tables and weights alone with --fresh-optimizer."
    )


def _latest(directory: str, trainer: Trainer, may_lack: bool) -> Place | None:
    exchange = exchange_of(trainer.model)
    try:
        return latest_state(directory) if exchange is None else latest_shared_state(directory, exchange)
    except FileNotFoundError:
        if may_lack:
            return None
        raise
