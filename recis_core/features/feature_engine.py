"""FeatureEngine: all features of a model, from a batch of input fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.features.definition import definition_of, digest_of, features_of
from recis_core.features.feature import Feature
from recis_core.features.features_file import read_features, write_features
from recis_core.features.fitting import fitted_numbers, fitted_op, passes_of, position_kept
from recis_core.features.fused import RUN, calls_of, keep_out_of_graphs
from recis_core.features.input_columns import input_columns, is_plain
from recis_core.features.op import FittedOp, Origin
from recis_core.features.value import described
from recis_core.plain_torch import in_plain_torch, without_gradients
from recis_core.ragged import RaggedTensor, from_keyed_jagged, is_keyed_jagged
from recis_core.uninterrupted import uninterrupted

Functions = Mapping[tuple[str, int], Callable[[Any], Any]]


class FeatureEngine(nn.Module):
    """{feature: column} from {field: column}: one definition for training and serving.

        engine = FeatureEngine([
            Feature("item").add_op(SelectField("item_id")).add_op(Mod(10_000)),
            Feature("cross").add_op(SelectFields(["user_id", "item_id"])).add_op(FeatureCross()),
        ])
        columns = engine({"user_id": …, "item_id": …})

    Columns are tensors or RaggedTensors, on any device; results are where their inputs are, so `engine.to` moves nothing.
    Ops of one class in a step run in one call. No input is changed. No gradient flows through a feature.

    Args:
      feature_list: Features; each belongs to one engine, and its ops are fixed from then on. Two of one name must be equal,
        and are computed once.

    Raises:
      TypeError: feature_list holds something else. ValueError: a Feature has no ops or is another engine's, two unlike ones
        have one name, a field is needed as two kinds, or an op to be fitted stands in two places.
    """

    def __init__(self, feature_list: Sequence[Feature]) -> None:
        super().__init__()
        given = _as_list(feature_list)
        features = _distinct(given)
        _check_fitted_ops(features)
        self._input_columns = input_columns(features)
        for feature in given:
            feature._compile()
        keep_out_of_graphs()
        self._features = {feature.name: feature for feature in features}
        self._calls = calls_of({feature.name: feature.ops for feature in features})

    @property
    def features(self) -> dict[str, Feature]:
        """The features by name."""
        return dict(self._features)

    @property
    def input_columns(self) -> dict[str, str]:
        """The fields it reads: {name: "int", "float", "number" (either) or "text"}."""
        return dict(self._input_columns)

    def read_by(self, dataset: Any) -> None:
        """Declare the input fields to a data set of files: `id_feature` of integers, `varlen_feature` of all others."""
        for name, kind in self.input_columns.items():
            declare = dataset.id_feature if kind == "int" else dataset.varlen_feature
            declare(name)

    @in_plain_torch
    @without_gradients
    def forward(self, data: Any, remain_no_use_data: bool = True) -> dict[str, Any]:
        """The features of a batch.

        Args:
          data: {field: tensor or RaggedTensor}, or a TorchRec KeyedJaggedTensor.
          remain_no_use_data: return inputs, too, but those whose name a feature has.

        Returns:
          {feature: result}, in the engine's order, then those inputs.

        Raises:
          KeyError: a field is missing. TypeError, ValueError: an op does not take what it gets. NotFitted: an op's numbers
            are not fitted. Each names the feature and the op.
        """
        fields = _as_fields(data)
        results = RUN[0](self._calls, list(self._features), fields)
        if remain_no_use_data:
            results.update({name: value for name, value in fields.items() if name not in self._features})
        return results

    @property
    def fit_passes(self) -> int:
        """How often `fit` reads the data: once, and once more for each fitted op that stands behind another."""
        return passes_of(list(self._features.values()))

    @in_plain_torch
    @without_gradients
    def fit(self, dataset: Iterable[Mapping[str, Any]]) -> FeatureEngine:
        """Fit all ops that have numbers to fit, anew, in `fit_passes` passes over batches; returns self.

        The numbers depend on the rows alone, not on their order or batches. A fit that raises or is interrupted leaves the
        engine as it was; a data set with `state_dict` has its position back.

        Raises:
          ValueError: there were no values, an infinite one, or an iterator where more than one pass is needed.
        """
        features = list(self._features.values())
        with position_kept(dataset):
            found = fitted_numbers(features, dataset)
        with uninterrupted():
            for name, numbers in found.items():
                for place, fitted in numbers.items():
                    fitted_op(self._features[name].ops, place).set_fitted(fitted)
        return self

    @property
    def fitted(self) -> bool:
        """Whether no op waits for `fit`."""
        ops = [op for feature in self._features.values() for op in feature.fitted_ops]
        return all(op.fitted is not None for op in ops)

    def to_dict(self) -> dict[str, Any]:
        """The definition: plain values, which JSON holds exactly, with all arguments, fitted numbers and vocabularies."""
        return definition_of(list(self._features.values()))

    @classmethod
    def from_dict(cls, definition: Mapping[str, Any], functions: Functions | None = None) -> FeatureEngine:
        """The engine of a definition; its features are the same bits.

        Args:
          functions: of Custom ops, by (name, version), beside those of `register_function`.

        Raises:
          ValueError: another format or version, an unknown op or argument; feature and op are named.
        """
        return cls(features_of(definition, Origin(functions={} if functions is None else functions)))

    def digest(self) -> str:
        """A hash of the definition, 32 hex digits. Any argument or fitted number changes it; order and device do not."""
        return digest_of(list(self._features.values()))

    @classmethod
    def from_yaml(cls, path: str | Path, functions: Functions | None = None) -> FeatureEngine:
        """The engine of a file as `docs/features.md` describes it.

        Raises:
          FileNotFoundError: no such file. ValueError: the file holds no features; it names file, feature and op.
        """
        return read_features(cls, path, {} if functions is None else functions)

    def to_yaml(self, path: str | Path) -> None:
        """Write the features to a file for people, with fitted numbers; a vocabulary of a file stays the file's."""
        write_features(path, list(self._features.values()))

    def get_extra_state(self) -> Tensor:
        """The definition as JSON, uint8, in `state_dict`."""
        return torch.frombuffer(bytearray(json.dumps(self.to_dict(), sort_keys=True).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Take the fitted numbers of a state. Raises ValueError where its features are others."""
        definition = json.loads(bytes(state.cpu().tolist()).decode())
        saved = {entry["name"]: entry["ops"] for entry in definition["features"]}
        mine = {entry["name"]: entry["ops"] for entry in self.to_dict()["features"]}
        if _without_numbers(saved) != _without_numbers(mine):
            unlike = [name for name in {**saved, **mine} if saved.get(name) != mine.get(name)]
            raise ValueError(
                f"the saved state is of other features; {', '.join(map(repr, sorted(unlike)[:5]))} differ. "
                "FeatureEngine.from_dict makes the engine of a saved definition."
            )
        found = [pair for name, ops in saved.items() for pair in self._numbers_in(name, ops)]
        with uninterrupted():
            for op, numbers in found:
                op.set_fitted(numbers)

    def _numbers_in(self, name: str, ops: Sequence[Mapping[str, Any]]) -> Iterator[tuple[FittedOp, Any]]:
        """A feature's fitted ops with the checked numbers of a state."""
        for op, saved in zip(self._features[name].ops, ops, strict=True):
            if isinstance(op, FittedOp) and op.needs_fit:
                numbers = saved["arguments"]["fitted"]
                yield op, None if numbers is None else op.read_fitted(numbers)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        keep_out_of_graphs()

    def extra_repr(self) -> str:
        return "\n".join(map(repr, self._features.values()))


def _as_list(feature_list: Any) -> list[Any]:
    if isinstance(feature_list, Feature) or not isinstance(feature_list, Iterable):
        raise TypeError(f"feature_list must be a list of Features; got {type(feature_list).__name__}.")
    return list(feature_list)


def _distinct(feature_list: Sequence[Any]) -> list[Feature]:
    found: dict[str, Feature] = {}
    for feature in feature_list:
        _check(feature)
        first = found.setdefault(feature.name, feature)
        if first is not feature and first.get_hash() != feature.get_hash():
            raise ValueError(f"two features are named {feature.name!r}, with other ops: {first!r} and {feature!r}.")
    return list(found.values())


def _check(feature: Any) -> None:
    if not isinstance(feature, Feature):
        raise TypeError(f"feature_list must be a list of Features; got {feature!r}.")
    feature._require_ops()
    if feature.compiled:
        raise ValueError(f"feature {feature.name!r} belongs to another engine. Make a Feature for each.")
    if not is_plain(feature.ops[0]):
        raise ValueError(
            f"feature {feature.name!r}: an engine takes a dict, and SelectField(from_dict=False) takes a column. Call the "
            "Feature by itself, or select a field."
        )


def _check_fitted_ops(features: Sequence[Feature]) -> None:
    seen: dict[int, str] = {}
    for feature in features:
        for op in feature.fitted_ops:
            if id(op) in seen:
                raise ValueError(
                    f"features {seen[id(op)]!r} and {feature.name!r} share one {op.kind}, whose numbers are fitted to one "
                    "column. Make one for each."
                )
            seen[id(op)] = feature.name


def _as_fields(data: Any) -> Mapping[str, Any]:
    if is_keyed_jagged(data):
        fields: dict[str, RaggedTensor] = from_keyed_jagged(data)
        return fields
    if not isinstance(data, Mapping):
        raise TypeError(f"data must be a dict of fields, or a KeyedJaggedTensor; got {described(data)}.")
    return data


def _without_numbers(features: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [{**op, "arguments": {**op["arguments"], "fitted": None}} for op in ops] for name, ops in features.items()
    }
