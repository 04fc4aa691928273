"""Definitions: to_dict and from_dict, the digest, and features.yaml."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.features import (
    Bucketize,
    Custom,
    Feature,
    FeatureCross,
    FeatureEngine,
    Mod,
    Normalize,
    Quantile,
    SelectField,
    SelectFields,
    SequenceTruncate,
    register_function,
)
from tests.features.columns import bits, feature
from tests.features.every_op import FUNCTIONS, batch, fitted_engine

FIRST = {("first", 1): lambda columns: columns[0]}


@pytest.fixture(scope="module")
def engine() -> FeatureEngine:
    return fitted_engine()


def test_the_digest_changes_with_any_number(engine: FeatureEngine) -> None:
    definition = json.loads(json.dumps(engine.to_dict()))
    digests = {engine.digest()}
    places = list(leaves(definition["features"]))
    assert len(places) > 80
    for path in places:
        changed = copy.deepcopy(definition)
        at = changed["features"]
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = other(at[path[-1]])
        try:
            digests.add(FeatureEngine.from_dict(changed, AnyFunction()).digest())
        except ValueError:
            continue  # such a number is refused
    assert len(digests) > 60
    reordered = {**definition, "features": definition["features"][::-1]}
    assert FeatureEngine.from_dict(reordered, FUNCTIONS | FIRST).digest() == engine.digest()


class AnyFunction(dict):  # type: ignore[type-arg]
    def get(self, key: Any, default: Any = None) -> Any:
        return lambda value: value


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from leaves(value, (*path, key)) if isinstance(value, dict | list) and value else [(*path, key)]


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value * (1 + 2**-52) or 5e-324
    return f"{value}x" if isinstance(value, str) else 1


def test_the_last_bit_of_a_fitted_number_counts() -> None:
    fitted = {"count": 3, "mean": 0.1, "std": 1.0}
    one = FeatureEngine([feature("x", "x", Normalize(zscore=True, fitted=fitted))])
    two = FeatureEngine([feature("x", "x", Normalize(zscore=True, fitted={**fitted, "mean": 0.1 + 2**-56}))])
    assert one.digest() != two.digest()


def changed(**values: Any) -> dict[str, Any]:
    return {**FeatureEngine([feature("x", "a", Mod(10))]).to_dict(), **values}


def with_step(step: Any) -> dict[str, Any]:
    select = {"op": "SelectField", "arguments": {"name": "a"}}
    return changed(features=[{"name": "x", "ops": [select, step]}])


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ([], "a definition of features, format 'recis_core.features', is wanted; got 'list'"),
        ({}, "got None"),
        (changed(format="torch"), "got 'torch'"),
        (changed(version=2), "reads version 1 of definitions of features; got 2. A newer recis-core wrote it"),
        (changed(more=1), "a definition holds format, version and a list, features; got .*more"),
        (changed(features=[{"name": "x"}]), r"features\[0\] must hold a name and a list, ops"),
        (with_step({"op": "Mod"}), "feature 'x': an op must hold op and arguments"),
        (
            with_step({"op": "Modulo", "arguments": {}}),
            "feature 'x', op 2: there is no op 'Modulo'; ops are Bucketize, ",
        ),
        (
            with_step({"op": "Mod", "arguments": {"mod": 3}}),
            "feature 'x', op 2, Mod: there is no argument 'mod'; arguments are mod_value",
        ),
        (with_step({"op": "Mod", "arguments": {}}), "feature 'x', op 2, Mod: the argument mod_value is missing"),
        (with_step({"op": "Mod", "arguments": [3]}), "feature 'x', op 2, Mod: arguments must be a mapping by name"),
        (with_step({"op": "Mod", "arguments": {"mod_value": "3"}}), "op 2, Mod: mod_value must be an integer; got '3'"),
        (
            with_step({"op": "Custom", "arguments": {"name": "absent"}}),
            "op 2, Custom: there is no function 'absent', version 1. Register it",
        ),
        (
            with_step({"op": "Quantile", "arguments": {"num_buckets": 4, "fitted": {"boundaries": [1.0]}}}),
            "op 2, Quantile: fitted must hold count, boundaries, rank_error; got boundaries",
        ),
        (
            with_step(
                {
                    "op": "Quantile",
                    "arguments": {
                        "num_buckets": 4,
                        "fitted": {"count": 1, "boundaries": [2.0, 1.0], "rank_error": 0.0},
                    },
                }
            ),
            "fitted boundaries must rise",
        ),
    ],
)
def test_definitions_that_are_none(definition: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FeatureEngine.from_dict(definition)


def test_custom_is_found_by_name_and_version() -> None:
    double, triple = (lambda value: value * 2), (lambda value: value * 3)
    engine = FeatureEngine([feature("x", "a", Custom("test_definition.scaled", 2, double))])
    definition = json.loads(json.dumps(engine.to_dict()))
    with pytest.raises(
        ValueError, match="feature 'x', op 2, Custom: there is no function 'test_definition.scaled', version 2"
    ):
        FeatureEngine.from_dict(definition, {("test_definition.scaled", 1): double})
    register_function("test_definition.scaled", double, version=2)
    assert FeatureEngine.from_dict(definition)({"a": torch.tensor([4])})["x"].tolist() == [8]
    with pytest.raises(ValueError, match="registered already. Raise the version"):
        register_function("test_definition.scaled", triple, version=2)
    passed = FeatureEngine.from_dict(definition, {("test_definition.scaled", 2): triple})
    assert passed({"a": torch.tensor([4])})["x"].tolist() == [12]
    assert passed.digest() == engine.digest()
    assert engine.digest() != FeatureEngine([feature("x", "a", Custom("test_definition.scaled", 3, double))]).digest()


def test_yaml_and_back(engine: FeatureEngine, tmp_path: Path) -> None:
    engine.to_yaml(tmp_path / "features.yaml")
    back = FeatureEngine.from_yaml(tmp_path / "features.yaml", FUNCTIONS | FIRST)
    assert back.digest() == engine.digest()
    assert list(back.features) == list(engine.features)
    data = batch(9, 0)
    assert bits(back(data)) == bits(engine(data))
    assert max(map(len, (tmp_path / "features.yaml").read_text().splitlines())) < 300


def test_yaml_is_short(tmp_path: Path) -> None:
    written = """version: 1
features:
  user: [{SelectField: user_id}, {Mod: 100000}]
  item_cross: [{SelectFields: [c1, c2]}, FeatureCross]
  price: [{SelectField: {name: price, dtype: float32}}, {Normalize: {log1p: true, clip: [0.0, 5.0]}}]
  score: [{SelectField: score}, {Normalize: {log1p: true}}]
  age: [{SelectField: age}, {Bucketize: [18.0, 25.0, 0.0010000000474974513]}]
  "yes": [{SelectField: '1'}, SequenceTruncate]
"""
    text = written.replace("[18.0, 25.0, 0.0010000000474974513]", "[0.001, 18, 25]")
    (tmp_path / "features.yaml").write_text(text)
    engine = FeatureEngine.from_yaml(tmp_path / "features.yaml")
    by_hand = [
        feature("user", "user_id", Mod(100_000)),
        feature("item_cross", ["c1", "c2"], FeatureCross()),
        Feature("price").add_op(SelectField("price", torch.float32)).add_op(Normalize(log1p=True, clip=[0, 5])),
        feature("score", "score", Normalize(log1p=True)),
        feature("age", "age", Bucketize([0.001, 18, 25])),
        feature("yes", "1", SequenceTruncate()),
    ]
    assert engine.digest() == FeatureEngine(by_hand).digest()
    engine.to_yaml(tmp_path / "out.yaml")
    wanted = text.replace("[0.001, 18, 25]", "[0.0010000000474974513, 18.0, 25.0]").replace('"yes"', "'yes'")
    assert (tmp_path / "out.yaml").read_text() == wanted


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FeatureEngine([feature("x", "a", Mod(10))]).to_yaml(tmp_path / "f.yaml")
    before = (tmp_path / "f.yaml").read_text()

    def broken(*paths: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="no space"):
        FeatureEngine([feature("x", "a", Mod(11))]).to_yaml(tmp_path / "f.yaml")
    assert (tmp_path / "f.yaml").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["f.yaml"]


def test_an_empty_engine_has_a_file(tmp_path: Path) -> None:
    FeatureEngine([]).to_yaml(tmp_path / "none.yaml")
    assert FeatureEngine.from_yaml(tmp_path / "none.yaml").features == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1", "the file must hold version and features"),
        ("features: {}", "reads version 1 of features; got None"),
        ("version: 1\nfeature: {}\nfeatures: {}", "there is no key 'feature'; keys are version and features"),
        ("version: 1\nfeatures: {x: Mod}", "feature 'x': a list of ops is wanted"),
        ("version: 1\nfeatures: {1: [{SelectField: a}]}", "a feature's name must be text; got 1"),
        (
            "version: 1\nfeatures: {x: [{SelectField: a, Mod: 3}]}",
            "feature 'x', op 1: an op's name or {name: arguments} is wanted",
        ),
        ("version: 1\nfeatures: {x: [{Mod: 3}]}", "feature 'x': the first op must be SelectField or SelectFields"),
        ("version: 1\nfeatures: {x: [{SelectField: a}, {Modulo: 3}]}", "feature 'x', op 2: there is no op 'Modulo'"),
        (
            "version: 1\nfeatures: {x: [{SelectField: a}, {Mod: {m: 3}}]}",
            "feature 'x', op 2, Mod: there is no argument 'm'",
        ),
        (
            "version: 1\nfeatures: {x: [{SelectField: a}, {FeatureCross: 3}]}",
            "feature 'x', op 2, FeatureCross: it takes no arguments",
        ),
        (
            "version: 1\nfeatures: {x: [{SelectField: a}, {Bucketize: [1e-3]}]}",
            r"Bucketize: boundary\[0\] must be a number; got '1e-3'. YAML reads 1e-3 as text; write 1.0e-3",
        ),
        ("version: 1\nfeatures: {x: [{SelectField: a}], x: [{SelectField: b}]}", "key 'x' is given twice"),
        (
            "version: 1\nfeatures: {x: [{SelectField: a}, {Hash: sha}]}",
            "op 2, Hash: hash_type must be 'farm' or 'murmur'; got 'sha'",
        ),
        (
            "version: 1\nfeatures: {x: [{SelectField: {name: a, dtype: int9}}]}",
            "op 1, SelectField: dtype must be a torch.dtype or its name",
        ),
        (
            "version: 1\nfeatures: {x: [{SelectField: a}, {Vocabulary: {file: no.txt}}]}",
            "op 2, Vocabulary: there is no vocabulary",
        ),
        ("version: 1\nfeatures: [", "is not YAML"),
    ],
)
def test_files_that_are_none(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "features.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as raised:
        FeatureEngine.from_yaml(path)
    assert str(path) in str(raised.value)


def test_no_file() -> None:
    with pytest.raises(FileNotFoundError, match="there is no file no.yaml"):
        FeatureEngine.from_yaml("no.yaml")


def test_fitted_numbers_stand_in_the_file(tmp_path: Path) -> None:
    fitted = FeatureEngine([feature("x", "x", Quantile(3))]).fit([{"x": torch.arange(9.0)}])
    fitted.to_yaml(tmp_path / "f.yaml")
    assert "fitted: {count: 9, boundaries: [3.0, 6.0], rank_error: 0.0}" in (tmp_path / "f.yaml").read_text()
    assert SelectFields(["a"]).written(tmp_path) == {"input_list": ["a"]}
