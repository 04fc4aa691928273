"""What an engine refuses, and in which words: features, options, names and copies."""

import copy

import pytest
import torch

from recis_core.backends.errors import RecisError
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.ragged import RaggedTensor

TABLE = EmbeddingOption(4, backend="torch")

BAD_FEATURES = {
    "floats": ({"f": torch.tensor([1.0])}, TypeError, r"ids of feature 'f' must be integers; got torch.float32"),
    "elsewhere": (
        {"f": torch.zeros(2, dtype=torch.int64, device="meta")},
        ValueError,
        "ids of feature 'f' are on meta; table 'f' is on cpu",
    ),
    "three_dimensions": (
        {"f": torch.zeros(1, 1, 1, dtype=torch.int64)},
        ValueError,
        r"must be \[B\] or \[B, F\]; got \[1, 1, 1\]",
    ),
    "a_list": ({"f": [1, 2]}, TypeError, "must be integers in a Tensor or a NumPy array; got a list"),
    "missing": ({"g": torch.tensor([1])}, KeyError, "features \\['f'\\] have an EmbeddingOption and are missing"),
}


@pytest.mark.parametrize("case", BAD_FEATURES)
def test_bad_features_are_named(case):
    features, error, words = BAD_FEATURES[case]
    engine = EmbeddingEngine({"f": TABLE})
    with pytest.raises(error, match=words):
        engine(features)


BAD_OPTIONS = {
    "no_columns": ((0,), {}, ValueError, "embedding_dim must be at least 1; got 0"),
    "an_unknown_name": ((4,), {"pooling": "sum"}, TypeError, "unexpected keyword"),
    "an_unknown_backend": ((4,), {"backend": "cuda"}, ValueError, "backend must be one of"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_are_named(case):
    values, named, error, words = BAD_OPTIONS[case]
    with pytest.raises(error, match=words):
        EmbeddingOption(*values, **named)


def test_offsets_past_the_end_are_named():
    with pytest.raises(ValueError, match=r"offsets must end at len\(.*\) = 2"):
        RaggedTensor(torch.tensor([1, 2]), torch.tensor([0, 3]))


def test_a_table_s_name_holds_no_dot():
    with pytest.raises(ValueError, match="holds a '.'"):
        EmbeddingEngine({"a.b": TABLE})


def test_an_engine_is_not_deep_copied():
    with pytest.raises(RecisError, match="cannot be deep-copied"):
        copy.deepcopy(EmbeddingEngine({"f": TABLE}))


def test_a_table_that_is_not_there_is_named():
    with pytest.raises(KeyError, match="no table 'g'; this engine has f"):
        EmbeddingEngine({"f": TABLE}).table("g")
