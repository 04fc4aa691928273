"""The engine: which features it takes, what it returns, and how many calls it makes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recis_core.features import (
    Bucketize,
    Combine,
    Custom,
    Feature,
    FeatureCross,
    FeatureEngine,
    FillNull,
    Hash,
    Lookup,
    Mod,
    Quantile,
    SelectField,
    SelectFields,
    Vocabulary,
)
from recis_core.features.definition import OPS
from tests.features.columns import bits, feature, rows, texts


def test_results_by_feature_and_what_no_feature_is_named_after() -> None:
    engine = FeatureEngine([feature("x", "x", Mod(10)), feature("again", "x", Mod(7))])
    data = {"x": torch.tensor([15]), "y": torch.tensor([3])}
    assert {k: v.tolist() for k, v in engine(data).items()} == {"x": [5], "again": [1], "y": [3]}
    assert list(engine(data, remain_no_use_data=False)) == ["x", "again"]
    assert list(engine(data)) == ["x", "again", "y"]


def test_no_input_changes() -> None:
    data = {"x": rows([15, 4], [26]), "y": rows([1, 1], [2]), "z": torch.tensor([0.5, float("nan")])}
    before = bits(data)
    engine = FeatureEngine(
        [
            feature("a", "x", Mod(10)),
            feature("b", "x", Mod(7), Vocabulary([1, 2, 3], oov_buckets=4)),
            feature("c", ["x", "y"], FeatureCross(), Mod(5)),
            feature("d", "z", FillNull(0.0), Bucketize([0.25])),
            feature("e", ["x", "y"], Combine(3)),
            Feature("f").add_op(SelectField("y", dim=9)),
            feature("g", ["x", "y"], Lookup(4, 0)),
        ]
    )
    first, second = engine(data), engine(data)
    assert bits(data) == before
    assert bits(first) == bits(second)


def test_one_call_a_class_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """26 features of the same four steps, and two others: as many calls as classes in each step."""
    calls: list[tuple[str, int]] = []
    for name, op_class in OPS.items():

        def counted(cls: Any, ops: Any, values: Any, run: Any = op_class.run.__func__, name: str = name) -> Any:  # type: ignore[attr-defined]
            calls.append((name, len(ops)))
            return run(cls, ops, values)

        monkeypatch.setattr(op_class, "run", classmethod(counted))
    many = [feature(f"f{n}", f"x{n}", Hash("farm" if n % 2 else "murmur"), Mod(n + 1), Combine(9)) for n in range(26)]
    engine = FeatureEngine(
        [*many, feature("b", "z", Bucketize([0.5])), feature("c", ["y", "y"], FeatureCross(), Mod(3))]
    )
    data = {f"x{n}": texts(["a", "b"], []) for n in range(26)}
    engine({**data, "y": rows([1], [2]), "z": torch.tensor([1.0, 2.0])})
    assert calls == [
        ("SelectField", 27),
        ("SelectFields", 1),
        ("Hash", 26),
        ("Bucketize", 1),
        ("FeatureCross", 1),
        ("Mod", 27),
        ("Combine", 26),
    ]


def test_equal_features_of_one_name_are_computed_once() -> None:
    engine = FeatureEngine([feature("x", "a", Mod(10)), feature("x", "a", Mod(10))])
    assert list(engine.features) == ["x"]
    assert engine({"a": torch.tensor([13])}, False)["x"].tolist() == [3]
    with pytest.raises(ValueError, match=r"two features are named 'x', with other ops: .*Mod\(mod_value=10\).*11"):
        FeatureEngine([feature("x", "a", Mod(10)), feature("x", "a", Mod(11))])


def test_a_feature_belongs_to_one_engine_and_is_fixed() -> None:
    one = feature("x", "a", Mod(10))
    FeatureEngine([one])
    with pytest.raises(ValueError, match="feature 'x' belongs to an engine, and its ops are fixed"):
        one.add_op(Mod(2))
    with pytest.raises(ValueError, match="feature 'x' belongs to another engine"):
        FeatureEngine([one])


def test_any_iterable_of_features_is_taken() -> None:
    features = [feature("x", "a", Mod(10)), feature("y", "a", Mod(3))]
    assert list(FeatureEngine(iter(features)).features) == ["x", "y"]
    assert all(one.compiled for one in features)


def test_an_error_of_a_functions_own_kind_stays_it() -> None:
    engine = FeatureEngine([feature("x", "a", Custom("decoded", 1, lambda value: bytes(value.tolist()).decode()))])
    with pytest.raises(UnicodeDecodeError) as raised:
        engine({"a": torch.tensor([255])})
    assert raised.value.__notes__ == ["in feature 'x', Custom"]


def test_a_refused_list_leaves_its_features_free() -> None:
    one = feature("x", "a", Mod(10))
    with pytest.raises(ValueError, match="feature 'y' has no ops"):
        FeatureEngine([one, Feature("y")])
    FeatureEngine([one])


@pytest.mark.parametrize(
    ("build", "error", "said"),
    [
        (lambda: Feature("x").add_op(Mod(3)), ValueError, "the first op must be SelectField or SelectFields; got Mod"),
        (lambda: feature("x", "a", SelectField("b")), ValueError, "only the first op selects"),
        (lambda: Feature("x").add_op("Mod"), TypeError, "an op is wanted, such as SelectField"),
        (lambda: Feature(""), ValueError, "must not be empty"),
        (lambda: Feature(3), TypeError, "must be text; got 3"),
        (lambda: FeatureEngine(feature("x", "a")), TypeError, "a list of Features; got Feature"),
        (lambda: FeatureEngine(["x"]), TypeError, "a list of Features; got 'x'"),
        (
            lambda: FeatureEngine([Feature("x").add_op(SelectField("a", from_dict=False))]),
            ValueError,
            "an engine takes a dict",
        ),
        (
            lambda: FeatureEngine([feature("x", "a", Mod(3)), feature("y", "a", Hash("farm"))]),
            ValueError,
            "field 'a' is wanted as int by feature 'x' and as text by feature 'y'",
        ),
    ],
)
def test_what_is_refused(build: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        build()


def test_a_fitted_op_stands_in_one_place() -> None:
    op = Quantile(4)
    with pytest.raises(ValueError, match="features 'x' and 'y' share one Quantile"):
        FeatureEngine([feature("x", "a", op), feature("y", "b", op)])


def test_input_columns() -> None:
    engine = FeatureEngine(
        [
            feature("a", "ids", Mod(3)),
            feature("b", "text", Hash("farm")),
            feature("c", "number", Bucketize([0.0])),
            Feature("d").add_op(SelectField("float", torch.float32)).add_op(Bucketize([0.0])),
            feature("f", "words", Vocabulary(["a"])),
            feature("g", ["map_keys", "map_values"], Lookup("k", 0)),
            feature("h", "anything", Custom("f", 1, lambda column: column)),
        ]
    )
    assert engine.input_columns == {
        "ids": "int",
        "text": "text",
        "number": "number",
        "float": "float",
        "words": "text",
        "map_keys": "text",
        "map_values": "number",
        "anything": "int",
    }
    narrowed = FeatureEngine([feature("c", "n", Bucketize([0.0])), feature("h", "n", Mod(3))])
    assert narrowed.input_columns == {"n": "int"}


def test_a_feature_by_itself_is_the_same() -> None:
    data = {"x": rows([15, 4], [26])}
    alone = feature("x", "x", Mod(10), Bucketize([5]))
    assert bits(alone(data)) == bits(FeatureEngine([feature("x", "x", Mod(10), Bucketize([5]))])(data)["x"])


def test_a_keyed_jagged_tensor_comes_in() -> None:
    class Keyed:
        keys = staticmethod(lambda: ["x"])
        values = staticmethod(lambda: torch.tensor([15, 26]))
        lengths = staticmethod(lambda: torch.tensor([1, 1]))
        weights_or_none = staticmethod(lambda: None)
        stride = staticmethod(lambda: 2)

    assert FeatureEngine([feature("y", "x", Mod(10))])(Keyed())["y"].values().tolist() == [5, 6]


def test_a_function_that_changes_its_input_is_caught() -> None:
    engine = FeatureEngine([feature("x", "a", Custom("bad", 1, lambda value: value.add_(1)))])
    with pytest.raises(RuntimeError, match="function 'bad' changed its input in place"):
        engine({"a": torch.tensor([1])})


def test_selects_are_by_name_or_fields() -> None:
    assert SelectFields(["a", SelectField("b", torch.float32)]).arguments()["input_list"][1]["dtype"] == "float32"
