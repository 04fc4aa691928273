"""Fused equals one by one, loops torch, any split the whole; order changes nothing; a definition gives the same bits."""

from __future__ import annotations

import json
import os
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.features import FeatureEngine
from recis_core.features.definition import OPS
from recis_core.io.selection import select_rows
from recis_core.ragged import RaggedTensor
from tests.features.columns import bits, listed
from tests.features.every_op import FUNCTIONS, batch, every_op, fitted_engine

SIZES = st.integers(0, 12)
SEEDS = st.integers(0, 2**31)
FIRST = {("first", 1): lambda columns: columns[0]}
CASES = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def engine() -> FeatureEngine:
    return fitted_engine()


def test_every_op_has_a_case(engine: FeatureEngine) -> None:
    assert {op.kind for feature in engine.features.values() for op in feature.ops} == set(OPS)


@CASES
@given(SIZES, SEEDS)
def test_fused_is_one_by_one(engine: FeatureEngine, B: int, seed: int) -> None:
    data = batch(B, seed)
    fused = engine(data, False)
    assert bits({name: feature(data) for name, feature in engine.features.items()}) == bits(fused)
    before = bits(data)
    engine(data)
    assert bits(data) == before


@CASES
@given(SIZES, SEEDS)
def test_loops_are_torch(engine: FeatureEngine, B: int, seed: int) -> None:
    data = batch(B, seed)
    with mock.patch.dict(os.environ, RECIS_BACKEND="torch"):
        plain = engine(data)
    assert bits(engine(data)) == bits(plain)


def rows_of(value: Any) -> Any:
    return {name: rows_of(item) for name, item in value.items()} if isinstance(value, dict) else listed(value)


def together(first: Any, second: Any) -> Any:
    return {k: first[k] + second[k] for k in first} if isinstance(first, dict) else first + second


@CASES
@given(SIZES, SEEDS, st.integers(0, 12))
def test_any_split_is_the_whole(engine: FeatureEngine, B: int, seed: int, cut: int) -> None:
    data = batch(B, seed)
    first = torch.arange(B) < cut
    parts = [rows_of(engine(select_rows(data, kept), False)) for kept in (first, ~first)]
    whole = rows_of(engine(data, False))
    joined = {name: together(parts[0][name], parts[1][name]) for name in whole}
    assert repr(joined) == repr(whole)  # NaN is not equal to itself


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(len(every_op()))), SEEDS)
def test_order_changes_nothing(engine: FeatureEngine, order: list[int], seed: int) -> None:
    features = every_op()
    other = fitted_engine([features[n] for n in order])
    data = batch(7, seed)
    assert other.digest() == engine.digest()
    mine, theirs = engine(data), other(data)
    assert {name: bits(value) for name, value in mine.items()} == {name: bits(value) for name, value in theirs.items()}


@settings(max_examples=10, deadline=None)
@given(SIZES, SEEDS)
def test_a_definition_gives_the_same_bits(engine: FeatureEngine, B: int, seed: int) -> None:
    back = FeatureEngine.from_dict(json.loads(json.dumps(engine.to_dict())), FUNCTIONS | FIRST)
    assert back.digest() == engine.digest()
    data = batch(B, seed)
    assert bits(back(data)) == bits(engine(data))


def test_where_the_last_bit_of_log1p_decides() -> None:
    """A wide sweep of float32: the loop's log1p and torch's give one float32."""
    from recis_core.features import Normalize

    x = torch.arange(0, 2**31 - 2**23, 4099, dtype=torch.int64).to(torch.int32).view(torch.float32)
    op = Normalize(log1p=True)
    with mock.patch.dict(os.environ, RECIS_BACKEND="torch"):
        plain = op(x)
    assert len(x) > 500_000
    assert torch.equal(op(x), plain)
    assert isinstance(op(RaggedTensor(x, torch.tensor([0, len(x)]))), RaggedTensor)
