"""Whether a saved run and this one have the same flags, data, features and model, where they must."""

from __future__ import annotations

from typing import Any

from recis_core.backends.errors import StateMismatch
from recis_core.cli.column_kinds import other_kinds
from recis_core.cli.data_files import difference
from recis_core.cli.flags import flag
from recis_core.cli.run_parts import part_of_run, where_of
from recis_core.cli.saving import Run
from recis_core.serialize import SavedState
from recis_core.serialize.parts import naming

# With these flags a step's number means the same: rows, their order, and tables.
RESUMABLE = ("model", "preset", "label", "dim", "batch_size", "optimizer", "seed", "rows", "test_fraction")
NEW_RUN = "Resume with the same, or begin a new run from the saved tables and weights: --init-from {}."


def check_same_model(settings: dict[str, Any], state: SavedState, run: Run) -> None:
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


def check_settings(settings: dict[str, Any], state: SavedState, directory: str) -> None:
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


def check_data(saved: dict[str, Any], run: Run, directory: str) -> None:
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
