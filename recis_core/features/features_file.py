"""Features in a YAML file, to write and to read by hand.

    version: 1
    features:
      user:       [{SelectField: user_id}, {Mod: 100000}]
      item_cross: [{SelectFields: [c1, c2]}, FeatureCross]
      price:      [{SelectField: {name: price, dtype: float32}}, {Normalize: {log1p: true, zscore: true}}]

An op is its name, or {name: first argument}, or {name: {argument: value, …}}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from recis_core.features.definition import OPS, VERSION, feature_of
from recis_core.features.op import Op, Origin, positional
from recis_core.options.yaml_file import read_yaml

if TYPE_CHECKING:
    from recis_core.features.feature import Feature
    from recis_core.features.feature_engine import FeatureEngine


LINE = 120


def read_features(engine_class: type[FeatureEngine], path: str | Path, functions: Mapping[Any, Any]) -> FeatureEngine:
    """Raises FileNotFoundError, or ValueError that names the file, the feature and the op."""
    tree = read_yaml(path)
    try:
        features = _features_of(tree, Origin(Path(path).absolute().parent, functions))
        return engine_class(features)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _features_of(tree: Any, origin: Origin) -> list[Feature]:
    if not isinstance(tree, dict) or not isinstance(tree.get("features"), dict):
        raise ValueError("the file must hold version and features, a mapping of names to lists of ops.")
    if tree.get("version") != VERSION:
        raise ValueError(f"this recis-core reads version {VERSION} of features; got {tree.get('version')!r}.")
    unknown = [key for key in tree if key not in ("version", "features")]
    if unknown:
        raise ValueError(f"there is no key {unknown[0]!r}; keys are version and features.")
    return [_feature_of(name, steps, origin) for name, steps in tree["features"].items()]


def _feature_of(name: Any, steps: Any, origin: Origin) -> Feature:
    if not isinstance(name, str):
        raise ValueError(f"a feature's name must be text; got {name!r}. Write it in quotes.")
    if not isinstance(steps, list) or not steps:
        raise ValueError(f"feature {name!r}: a list of ops is wanted, such as [{{SelectField: user}}]; got {steps!r}.")
    return feature_of(name, [_step_of(name, n, step) for n, step in enumerate(steps)], origin)


def _step_of(name: str, n: int, step: Any) -> tuple[Any, dict[str, Any]]:
    """(op, arguments by name)."""
    if isinstance(step, str):
        return step, {}
    if not isinstance(step, dict) or len(step) != 1:
        raise ValueError(f"feature {name!r}, op {n + 1}: an op's name or {{name: arguments}} is wanted; got {step!r}.")
    ((kind, given),) = step.items()
    if isinstance(given, dict):
        return kind, given
    op_class = OPS.get(kind) if isinstance(kind, str) else None
    return kind, {} if op_class is None or given is None else {_first_argument(name, n, op_class): given}


def _first_argument(name: str, n: int, op_class: type[Op]) -> str:
    names = positional(op_class)
    if not names:
        raise ValueError(f"feature {name!r}, op {n + 1}, {op_class.__name__}: it takes no arguments.")
    return names[0]


def write_features(path: str | Path, features: Sequence[Feature]) -> None:
    """Write the features: one on a line where it is short."""
    folder = Path(path).absolute().parent
    lines = [f"version: {VERSION}\n", "features:\n" if features else "features: {}\n"]
    lines += [_lines(feature, folder) for feature in features]
    _write_whole(Path(path), "".join(lines))


def _write_whole(path: Path, text: str) -> None:
    """The file is written beside, and gets its name when it is whole."""
    aside = path.with_name(f".{os.getpid()}.writing.{path.name}")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _lines(feature: Feature, folder: Path) -> str:
    """One line, or one for each op where that would be long."""
    key, steps = _flow(feature.name), [_flow(_written(op, folder)) for op in feature.ops]
    line = f"  {key}: [{', '.join(steps)}]\n"
    return line if len(line) <= LINE else f"  {key}:\n" + "".join(f"    - {step}\n" for step in steps)


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 30)
    return text.removesuffix("\n").removesuffix("\n...")


def _written(op: Op, folder: Path) -> Any:
    arguments = op.written(folder)
    if not arguments:
        return op.kind
    first = positional(type(op))[0]
    if list(arguments) == [first] and not isinstance(arguments[first], dict | bool):
        return {op.kind: arguments[first]}
    return {op.kind: arguments}
