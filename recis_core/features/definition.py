"""Features as plain values, which JSON holds: a version, names, ops with all arguments and fitted numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recis_core.features.bucketize import Bucketize
from recis_core.features.combine import Combine
from recis_core.features.custom import Custom
from recis_core.features.feature_cross import FeatureCross
from recis_core.features.fill_null import FillNull
from recis_core.features.hash import Hash
from recis_core.features.id_multi_hash import IDMultiHash
from recis_core.features.lookup import Lookup
from recis_core.features.mod import Mod
from recis_core.features.normalize import Normalize
from recis_core.features.op import HERE, Op, Origin
from recis_core.features.quantile import Quantile
from recis_core.features.select_field import SelectField, SelectFields
from recis_core.features.sequence_truncate import SequenceTruncate
from recis_core.features.string_multi_hash import StringMultiHash
from recis_core.features.vocabulary import Vocabulary

if TYPE_CHECKING:
    from recis_core.features.feature import Feature

VERSION = 1
FORMAT = "recis_core.features"
OPS: dict[str, type[Op]] = {
    op.__name__: op
    for op in (
        *(Bucketize, Combine, Custom, FeatureCross, FillNull, Hash, IDMultiHash, Lookup, Mod, Normalize),
        *(Quantile, SelectField, SelectFields, SequenceTruncate, StringMultiHash, Vocabulary),
    )
}
REFUSED = (TypeError, ValueError, KeyError, OSError)


def feature_definition(name: str, ops: Sequence[Op]) -> dict[str, Any]:
    return {"name": name, "ops": [{"op": op.kind, "arguments": op.arguments()} for op in ops]}


def feature_digest(name: str, ops: Sequence[Op]) -> str:
    return _digest(feature_definition(name, ops))


def definition_of(features: Sequence[Feature]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "features": [feature_definition(feature.name, feature.ops) for feature in features],
    }


def digest_of(features: Sequence[Feature]) -> str:
    """Of names, ops, arguments and fitted numbers; the order of features does not count."""
    return _digest({**definition_of(sorted(features, key=lambda feature: feature.name))})


def _digest(tree: Any) -> str:
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def features_of(definition: Any, origin: Origin = HERE) -> list[Feature]:
    """The features of a definition.

    Raises:
      ValueError: it is of another format or version, or holds an unknown op or argument; feature and op are named.
    """
    _check_form(definition)
    return [_feature_of(n, entry, origin) for n, entry in enumerate(definition["features"])]


def _check_form(definition: Any) -> None:
    if not isinstance(definition, Mapping) or definition.get("format") != FORMAT:
        got = definition.get("format") if isinstance(definition, Mapping) else type(definition).__name__
        raise ValueError(f"a definition of features, format {FORMAT!r}, is wanted; got {got!r}.")
    if definition.get("version") != VERSION:
        raise ValueError(
            f"this recis-core reads version {VERSION} of definitions of features; got {definition.get('version')!r}. A newer "
            "recis-core wrote it."
        )
    unknown = set(definition) - {"format", "version", "features"}
    if unknown or not isinstance(definition.get("features"), list):
        raise ValueError(
            f"a definition holds format, version and a list, features; got {', '.join(map(str, definition))}."
        )


def _feature_of(n: int, entry: Any, origin: Origin) -> Feature:
    if not isinstance(entry, Mapping) or set(entry) != {"name", "ops"} or not isinstance(entry["ops"], list):
        raise ValueError(f"features[{n}] must hold a name and a list, ops; got {entry!r}.")
    steps = []
    for step in entry["ops"]:
        if not isinstance(step, Mapping) or set(step) != {"op", "arguments"}:
            raise ValueError(f"feature {entry['name']!r}: an op must hold op and arguments; got {step!r}.")
        steps.append((step["op"], step["arguments"]))
    return feature_of(entry["name"], steps, origin)


def feature_of(name: Any, steps: Sequence[tuple[Any, Any]], origin: Origin) -> Feature:
    """A feature of (op's name, arguments by name) in order; errors name the feature and the op."""
    from recis_core.features.feature import Feature  # imports this module

    feature = Feature(name)
    for n, (kind, arguments) in enumerate(steps):
        where = f"feature {name!r}, op {n + 1}"
        op_class = OPS.get(kind) if isinstance(kind, str) else None
        if op_class is None:
            raise ValueError(f"{where}: there is no op {kind!r}; ops are {', '.join(OPS)}.")
        try:
            op = op_class.of(arguments, origin)
        except REFUSED as error:
            said = error.args[0] if len(error.args) == 1 else error
            raise ValueError(f"{where}, {kind}: {said}") from error
        feature.add_op(op)
    return feature
