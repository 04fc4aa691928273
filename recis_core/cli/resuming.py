"""Where a run begins: anew, where a saved run was (--resume), or with what one had learned (--init-from)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recis_core.backends.errors import StateMismatch
from recis_core.cli.column_kinds import other_kinds
from recis_core.cli.data_files import difference
from recis_core.cli.flags import flag
from recis_core.cli.saving import Run
from recis_core.cli.train_config import TrainConfig
from recis_core.framework import TrainLoop
from recis_core.serialize import SavedState, latest_shared_state, latest_state
from recis_core.serialize.parts import naming, part_of_state
from recis_core.serialize.shared_state import failing_together

# What a step's number means: the rows that were trained, in which order, into which tables.
RESUMABLE = ("model", "preset", "label", "dim", "batch_size", "optimizer", "seed", "rows", "test_fraction")
NEW_RUN = "Resume with the same, or begin a new run from the saved tables and weights: --init-from {}."


def begin(config: TrainConfig, loop: TrainLoop, run: Run) -> None:
    """Loads what the config says; a resumed run's id is its own. Collective."""
    if config.resume is not None:
        _resume(config, loop, run)
    elif config.init_from is not None:
        _init(config, loop, run)
    for group in loop.optimizer.param_groups:
        group["lr"] = group["lr"] if config.lr is None else config.lr


def _resume(config: TrainConfig, loop: TrainLoop, run: Run) -> None:
    path = _latest(str(config.resume), loop, config.resume_if_any)
    if path is None:
        return
    with failing_together(loop.exchange):
        state = SavedState(path)
        _check_settings(config, state)
        saved = dict(part_of_state(state, "run")) if "run" in state else {}  # older states have none
        _check_data(config, saved, run)
    loop.load_state(state)
    run["id"] = saved.get("id", "")


def _init(config: TrainConfig, loop: TrainLoop, run: Run) -> None:
    path = _latest(str(config.init_from), loop, False)
    with failing_together(loop.exchange):
        state = SavedState(path)  # type: ignore[arg-type]
        _check_same_model(config, state, run)
    try:
        loop.start_from(state, optimizer=not config.fresh_optimizer)
    except StateMismatch as error:
        raise StateMismatch(f"{error} {_way_out(config)}") from error


def _check_same_model(config: TrainConfig, state: SavedState, run: Run) -> None:
    """What the rows and weights mean, as far as the state says it."""
    if "settings" not in state or "run" not in state:
        return
    settings, mine = part_of_state(state, "settings"), run["features"]
    with naming(state, "run"):
        saved = part_of_state(state, "run")["features"]
        apart = [
            f"{flag(name)} {settings[name]}, not {getattr(config, name)}"
            for name in ("model", "dim")
            if settings[name] != getattr(config, name)
        ]
        if (saved["fields"], saved["dense"]) != (mine["fields"], mine["dense"]):
            apart.append(f"{_columns({'features': saved})}, not {_columns(run)}")
        else:
            kinds, now = saved.get("kinds", {}), mine.get("kinds", {})
            apart += [f"ids of {kinds[name]} in {name}, not of {now[name]}" for name in other_kinds(kinds, now)]
    if apart:
        raise StateMismatch(
            f"the run in {state.path} has {'; '.join(apart)}. --init-from needs the same; --columns and --skip choose columns."
        )


def _way_out(config: TrainConfig) -> str:
    if config.fresh_optimizer:
        return "--init-from needs a run of the same --model, --dim and columns."
    return (
        "--init-from needs a run of the same --model, --dim, columns and --optimizer; of another optimizer it takes "
        "tables and weights alone with --fresh-optimizer."
    )


def _latest(directory: str, loop: TrainLoop, may_lack: bool) -> Path | None:
    try:
        if loop.exchange is None:
            return latest_state(directory)
        return latest_shared_state(directory, loop.exchange)
    except FileNotFoundError:
        if may_lack:
            return None
        raise


def _check_settings(config: TrainConfig, state: SavedState) -> None:
    saved = part_of_state(state, "settings")
    with naming(state, "settings"):
        settings = {name: saved[name] for name in RESUMABLE}
    for name, value in settings.items():
        if value != getattr(config, name):
            raise ValueError(
                f"the saved run had {flag(name)} {value}; this one has {getattr(config, name)}. "
                + NEW_RUN.format(config.resume)
            )


def _check_data(config: TrainConfig, saved: dict[str, Any], run: Run) -> None:
    """Raises ValueError where steps of this run would be of other rows or columns."""
    if "data" not in saved:
        return
    what = difference(saved["data"], run["data"])
    if what is None and _inputs(saved) != _inputs(run):
        what = f"the saved run read {_columns(saved)}; this one reads {_columns(run)}"
    if what is not None:
        raise ValueError(f"{what}. A run goes on with the rows it has begun with. {NEW_RUN.format(config.resume)}")


def _inputs(run: Run) -> dict[str, Any]:
    """All that decides what goes into the model."""
    features = dict(run["features"])
    columns = dict(features.pop("columns", {}))
    columns.pop("truth", None)
    return features | columns


def _columns(run: Run) -> str:
    """Where fields and dense inputs are the same, all of it."""
    features = run["features"]
    columns = features.get("columns", {})
    more = [f"{name} of {', '.join(columns[name])}" for name in ("weights", "text", "whole") if columns.get(name)]
    return ", ".join([f"fields {', '.join(features['fields'])}", f"{features['dense']} dense inputs", *more])
