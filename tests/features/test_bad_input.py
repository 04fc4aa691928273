"""What an op does not take is refused by name of feature and op, and nothing is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recis_core.features import (
    Bucketize,
    Combine,
    FeatureCross,
    FeatureEngine,
    FillNull,
    Hash,
    IDMultiHash,
    Lookup,
    Mod,
    Normalize,
    Quantile,
    SelectField,
    SequenceTruncate,
    StringMultiHash,
    Vocabulary,
)
from recis_core.ragged import RaggedTensor
from tests.features.columns import bits, feature, rows, texts

INTS, FLOATS = rows([1, 2], [3]), torch.tensor([0.5, 1.0])
TEXT = texts(["a"], ["b"])
NESTED = RaggedTensor(torch.arange(2), [torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2])])
FIT = {"count": 2, "boundaries": [1.0], "rank_error": 0.0}

# By op: inputs that it does not take, and what is said.
REFUSED: list[tuple[Any, Any, type[Exception], str]] = [
    *((op, TEXT, TypeError, "must be integers; got text") for op in (Mod(3), IDMultiHash([3]), StringMultiHash([3]))),
    *((op, FLOATS, TypeError, "must be integers; got a tensor of torch.float32") for op in (Mod(3), IDMultiHash([3]))),
    *(
        (op, TEXT, TypeError, "must be integers or floats; got text")
        for op in (Bucketize([1.0]), FillNull(0), Normalize())
    ),
    (Quantile(3, fitted=FIT), TEXT, TypeError, "must be integers or floats; got text"),
    (Hash("farm"), INTS, TypeError, "must be text: a RaggedTensor of bytes"),
    (Hash("farm"), torch.zeros(2, dtype=torch.uint8), TypeError, "must be text: a RaggedTensor of bytes"),
    (Vocabulary(["a"]), INTS, TypeError, "must be text"),
    (Vocabulary([1]), TEXT, TypeError, "must be integers; got text"),
    (Vocabulary([1]), torch.tensor([True]), TypeError, "must be integers; got a tensor of torch.bool"),
    (FillNull(0.5), INTS, ValueError, r"value must be an integer that torch.int64 holds, as the column does; got 0.5"),
    (FillNull(300), torch.tensor([1], dtype=torch.uint8), ValueError, "got 300"),
    (SequenceTruncate(2, n_dims=3), INTS, ValueError, "n_dims=3 wants 2 levels of offsets or more"),
    (SequenceTruncate(2), torch.tensor([1]), TypeError, r"must be a RaggedTensor or a tensor \[B, L\]; got a tensor"),
    (FeatureCross(), INTS, TypeError, r"must be two columns, of SelectFields\(\[x, y\]\); got RaggedTensor"),
    (FeatureCross(), [INTS], TypeError, "must be two columns, .* got a list of 1"),
    (FeatureCross(), [INTS, FLOATS], TypeError, "column 1 must be integers"),
    (FeatureCross(), [INTS, NESTED], ValueError, "column 1 must have rows of single values"),
    (Combine(), [INTS, rows([1])], ValueError, "columns must have as many rows as another; got 2, 1"),
    (
        Combine(),
        [INTS, TEXT],
        TypeError,
        "column 1 must be integers; got text.* Hash or Vocabulary make integers of text",
    ),
    (Lookup(3, 0), INTS, TypeError, r"must be SelectFields\(\[keys, values\]\)"),
    (Lookup(default=0), [INTS, INTS], TypeError, r"must be SelectFields\(\[keys, values, wanted\]\)"),
    (Lookup("a", 0), [INTS, INTS], TypeError, "keys must be text"),
    (Lookup(3, 0), [TEXT, INTS], TypeError, "keys must be integers; got text"),
    (Lookup(3, 0), [INTS, TEXT], TypeError, "values must be integers or floats; got text"),
    (Lookup(3, 0), [INTS, rows([1], [2, 3])], ValueError, "as many keys as values; row 0 has 2 and 1"),
    (Lookup(3, 0), [INTS, rows([1])], ValueError, "columns must have as many rows as another; got 2, 1"),
    (Lookup(3, 0.5), [INTS, INTS], ValueError, "default must be an integer, as values are torch.int64; got 0.5"),
    (Lookup(default=0), [INTS, INTS, TEXT], TypeError, "keys and wanted must be of one kind"),
    (Mod(3), [INTS, INTS], TypeError, "must be integers; got a list of 2. SelectField selects one field"),
]


@pytest.mark.parametrize("alone", [True, False], ids=["op", "engine"])
def test_kinds_that_ops_do_not_take(alone: bool) -> None:
    for op, value, error, said in REFUSED:
        data = {f"f{n}": item for n, item in enumerate(value)} if isinstance(value, list) else {"f": value}
        engine_side = feature("x", list(data) if isinstance(value, list) else "f", op)
        run = (lambda: op(value)) if alone else lambda: FeatureEngine([engine_side])(data)  # noqa: B023
        before = bits(data)
        with pytest.raises(error, match=said if alone else f"feature 'x', {op.kind}: .*{said}"):
            run()
        assert bits(data) == before


def test_fields_that_are_missing_or_no_tensors() -> None:
    engine = FeatureEngine([feature("x", "a", Mod(3)), feature("y", ["a", "b"], FeatureCross())])
    cases: list[tuple[Any, type[Exception], str]] = [
        ({}, KeyError, "feature 'x', SelectField: the input has no field 'a'; it has none"),
        ({"a": INTS, "c": INTS}, KeyError, "feature 'y', SelectFields: the input has no field 'b'; it has a, c"),
        ({"a": np.arange(3), "b": INTS}, TypeError, "field 'a' must be a tensor or RaggedTensor; got ndarray"),
        ({"a": [1, 2], "b": INTS}, TypeError, "field 'a' must be a tensor or RaggedTensor; got a list of 2"),
        ({"a": None, "b": INTS}, TypeError, "field 'a' must be a tensor or RaggedTensor; got NoneType"),
        (INTS, TypeError, "data must be a dict of fields, or a KeyedJaggedTensor; got RaggedTensor"),
        ([INTS], TypeError, "data must be a dict of fields"),
    ]
    for data, error, said in cases:
        with pytest.raises(error, match=said):
            engine(data)


def test_offsets_that_do_not_fit() -> None:
    """A RaggedTensor refuses them; one whose parts were changed behind it, too."""
    for offsets in ([0, 1], [0, 3, 2], [1, 2], [0, 2, 5]):
        with pytest.raises(ValueError, match="offsets must"):
            RaggedTensor(torch.arange(3), torch.tensor(offsets))


ARGUMENTS: list[tuple[Any, type[Exception], str]] = [
    (lambda: Mod(0), ValueError, "mod_value must be in 1 .. 9223372036854775807; got 0"),
    (lambda: Mod(True), TypeError, "mod_value must be an integer; got True"),
    (lambda: Mod(2.0), TypeError, "mod_value must be an integer; got 2.0"),
    (
        lambda: Bucketize([2, 1]),
        ValueError,
        r"boundary must not decrease; got boundary\[0\] = 2.0, boundary\[1\] = 1.0",
    ),
    (lambda: Bucketize([float("nan")]), ValueError, r"boundary\[0\] must be finite"),
    (lambda: Bucketize(3), TypeError, "boundary must be a list; got 3"),
    (lambda: Hash("md5"), ValueError, "hash_type must be 'farm' or 'murmur'; got 'md5'"),
    (lambda: IDMultiHash([]), ValueError, "num_buckets must have 1 to 4 sizes; got 0"),
    (lambda: IDMultiHash([1] * 5), ValueError, "num_buckets must have 1 to 4 sizes; got 5"),
    (lambda: StringMultiHash([0]), ValueError, r"num_buckets\[0\] must be in 1"),
    (lambda: StringMultiHash([3], 5), TypeError, "prefix must be text; got 5"),
    (lambda: SequenceTruncate(0), ValueError, "seq_len must be in 1"),
    (lambda: SequenceTruncate(3, truncate_side="middle"), ValueError, "truncate_side must be 'left' or 'right'"),
    (lambda: SequenceTruncate(3, n_dims=4), ValueError, "n_dims must be 2 or 3; got 4"),
    (lambda: SequenceTruncate(3, truncate=1), TypeError, "truncate must be true or false; got 1"),
    (lambda: FillNull("x"), TypeError, "value must be a number; got 'x'"),
    (lambda: FillNull(float("inf")), ValueError, "value must be finite"),
    (lambda: Normalize(clip=[2, 1]), ValueError, "clip must be two numbers, low and high"),
    (lambda: Normalize(clip=[1]), ValueError, "clip must be two numbers"),
    (lambda: Normalize(fitted={}), ValueError, "fitted numbers are of zscore=True"),
    (lambda: Normalize(zscore=True, fitted={"count": 1, "mean": 0, "std": -1}), ValueError, "std must not be negative"),
    (lambda: Quantile(1), ValueError, "num_buckets must be in 2"),
    (lambda: Quantile(4, fitted=3), TypeError, "fitted must be a mapping of count, boundaries, rank_error; got 3"),
    (lambda: Combine(0), ValueError, "num_buckets must be in 1"),
    (lambda: Lookup(1.5), TypeError, "key must be an integer; got 1.5"),
    (lambda: SelectField(3), TypeError, "name must be text; got 3"),
    (lambda: SelectField("a", "int9"), TypeError, "dtype must be a torch.dtype or its name"),
]


def test_arguments_that_are_wrong() -> None:
    for make, error, said in ARGUMENTS:
        with pytest.raises(error, match=said):
            make()
