"""Where a run begins: anew, at a saved run's step (--resume), or with a saved run's tables and weights (--init-from)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from recis_core.backends.errors import StateMismatch
from recis_core.cli import torchrun
from recis_core.cli.column_kinds import other_kinds
from recis_core.cli.data_files import difference
from recis_core.cli.flags import flag, plain_errors
from recis_core.cli.outset import find_state
from recis_core.cli.run_parts import part_of_run, where_of
from recis_core.cli.saving import Run
from recis_core.framework import Trainer
from recis_core.framework.saved_loops import load_learned, resume_trainer
from recis_core.nn.hash_table import exchange_of
from recis_core.serialize import SavedState, latest_shared_state, latest_state
from recis_core.serialize.parts import naming
from recis_core.serialize.shared_state import failing_together

# With these flags a step's number means the same: rows, their order, and tables.
RESUMABLE = ("model", "preset", "label", "dim", "batch_size", "optimizer", "seed", "rows", "test_fraction")
NEW_RUN = "Resume with the same, or begin a new run from the saved tables and weights: --init-from {}."


@plain_errors
@dataclass(frozen=True, kw_only=True)
class StartFlags:
    """Where the run begins; by default with nothing."""

    resume: str | None = None
    """A directory given to --save: go on from its latest state, of any number of processes."""
    resume_if_any: bool = False
    """With --resume: begin anew where the directory holds no state yet, so that one command serves the first
    start and every restart (torchrun --max-restarts)."""
    init_from: str | None = None
    """A directory given to --save: begin a new run, on these rows or others, with the tables, dense weights and
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
        _check_settings(settings, state, directory)
        saved = part_of_run(state, "run") or {}  # older states have none
        _check_data(saved, run, directory)
    if state.has_tables:
        trainer.restore(path=path)
    else:
        resume_trainer(trainer, state)
    run["id"] = saved.get("id", "")


def _init(start: StartFlags, trainer: Trainer, run: Run, settings: dict[str, Any]) -> None:
    path = _latest(str(start.init_from), trainer, False)
    with failing_together(exchange_of(trainer.model)):
        state = SavedState(path)  # type: ignore[arg-type]
        _check_same_model(settings, state, run)
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


def _check_same_model(settings: dict[str, Any], state: SavedState, run: Run) -> None:
    """Raises StateMismatch where the state's model, columns or kinds of ids are others; older states have none of these."""
    before, origin, mine = part_of_run(state, "settings"), part_of_run(state, "run"), run["features"]
    if before is None or origin is None:
        return
    with naming(state, where_of(state, "run")):
        saved = origin["features"]
        apart = [
            f"{flag(name)} {before[name]}, not {settings[name]}"
            for name in ("model", "dim")
            if before[name] != settings[name]
        ]
        what = _other_features(saved, mine)
        if what is not None:
            apart.append(f"other features: {what}")
        elif (saved["fields"], saved["dense"]) != (mine["fields"], mine["dense"]):
            apart.append(f"{_columns({'features': saved})}, not {_columns(run)}")
        else:
            kinds, now = saved.get("kinds", {}), mine.get("kinds", {})
            apart += [f"ids of {kinds[name]} in {name}, not of {now[name]}" for name in other_kinds(kinds, now)]
    if apart:
        raise StateMismatch(
            f"the run in {state.path} has {'; '.join(apart)}. --init-from needs the same; --columns and --skip choose columns."
        )


def _way_out(start: StartFlags) -> str:
    if start.fresh_optimizer:
        return "--init-from needs a run of the same --model, --dim and columns."
    return (
        "--init-from needs a run of the same --model, --dim, columns and --optimizer; of another optimizer it takes "
        "tables and weights alone with --fresh-optimizer."
    )


def _latest(directory: str, trainer: Trainer, may_lack: bool) -> Path | None:
    exchange = exchange_of(trainer.model)
    try:
        return latest_state(directory) if exchange is None else latest_shared_state(directory, exchange)
    except FileNotFoundError:
        if may_lack:
            return None
        raise


def _check_settings(settings: dict[str, Any], state: SavedState, directory: str) -> None:
    saved = part_of_run(state, "settings")
    if saved is None:
        raise StateMismatch(f"{state.path} does not say with which flags it was trained, as recis train --save does.")
    with naming(state, where_of(state, "settings")):
        before = {name: saved[name] for name in RESUMABLE}
    for name, value in before.items():
        if value != settings[name]:
            raise ValueError(
                f"the saved run had {flag(name)} {value}; this one has {settings[name]}. " + NEW_RUN.format(directory)
            )


def _check_data(saved: dict[str, Any], run: Run, directory: str) -> None:
    """Raises ValueError where this run would read other rows or columns."""
    if "data" not in saved:
        return
    what = difference(saved["data"], run["data"])
    if what is None:
        what = _other_features(saved["features"], run["features"])
    if what is None and _inputs(saved) != _inputs(run):
        what = f"the saved run read {_columns(saved)}; this one reads {_columns(run)}"
    if what is not None:
        raise ValueError(f"{what}. A run goes on with the rows it has begun with. {NEW_RUN.format(directory)}")


def _other_features(saved: dict[str, Any], mine: dict[str, Any]) -> str | None:
    """Where --features says other than the saved run's, in words; fitted numbers count."""
    before, now = saved.get("engine"), mine.get("engine")
    if before == now:
        return None
    if before is None or now is None:
        words = ["without" if engine is None else "with" for engine in (before, now)]
        return f"the saved run was {words[0]} --features, this one is {words[1]}"
    old, new = ({entry["name"]: entry["ops"] for entry in tree["features"]} for tree in (before, now))
    unlike = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    what = ", ".join(map(repr, unlike[:5])) if unlike else "their order"
    return f"--features differ from the saved run's in {what}, by arguments or fitted numbers"


def _inputs(run: Run) -> dict[str, Any]:
    """What goes into the model."""
    features = dict(run["features"])
    columns = dict(features.pop("columns", {}))
    columns.pop("truth", None)
    rules = {name: columns.pop(name, {}) for name in ("units", "nulls")}  # older states have none
    return features | columns | rules


def _columns(run: Run) -> str:
    """In words."""
    features = run["features"]
    columns = features.get("columns", {})
    more = [
        f"{name} of {', '.join(columns[name])}"
        for name in ("weights", "text", "whole", "units", "nulls")
        if columns.get(name)
    ]
    return ", ".join([f"fields {', '.join(features['fields'])}", f"{features['dense']} dense inputs", *more])
