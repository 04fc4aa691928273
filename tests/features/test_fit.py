"""Fitting: exact numbers whatever the batches, several passes, and an engine that stays as it was."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.errors import NotFitted
from recis_core.features import Feature, FeatureEngine, FillNull, Mod, Normalize, Quantile, SelectField
from recis_core.features.exact_moments import ExactMoments
from recis_core.features.value_cells import ValueCells
from tests.features.columns import bits, feature

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=64).filter(lambda x: abs(x) < 1e100)


def engine_of(*ops: Any) -> FeatureEngine:
    made = Feature("x").add_op(SelectField("x", torch.float32))
    for op in ops:
        made.add_op(op)
    return FeatureEngine([made])


def seen(sketch: Any, parts: list[np.ndarray]) -> Any:
    for part in parts:
        sketch.add(torch.from_numpy(part))
    return sketch


@settings(max_examples=60, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=40), st.integers(0, 40), st.randoms(), st.booleans())
def test_moments_are_exact_in_any_split_order_and_merge(
    values: list[float], cut: int, random: Any, logarithm: bool
) -> None:
    x = np.array(values)
    whole = seen(ExactMoments(logarithm), [x]).numbers()
    shuffled = x.copy()
    random.shuffle(shuffled)
    left, right = (seen(ExactMoments(logarithm), [part]) for part in (shuffled[:cut], shuffled[cut:]))
    left.merge(right)
    assert left.numbers() == whole
    assert seen(ExactMoments(logarithm), [shuffled[:cut], shuffled[cut:]]).numbers() == whole
    if not logarithm:
        assert whole["mean"] == math.fsum(values) / len(values) or math.isclose(
            whole["mean"], math.fsum(values) / len(values), rel_tol=1e-15
        )


def test_moments_do_not_cancel() -> None:
    x = 1e9 + np.arange(5) * 1e-3
    numbers = seen(ExactMoments(False), [x]).numbers()
    centred = x - 1e9  # exact
    assert numbers["std"] == pytest.approx(np.std(centred), rel=1e-14)
    assert seen(ExactMoments(False), [np.full(3, 0.1)]).numbers() == {"count": 3, "mean": 0.1, "std": 0.0}
    tiny = seen(ExactMoments(False), [np.array([5e-324, -5e-324, 1e-300])]).numbers()
    assert tiny["mean"] == 1e-300 / 3
    with pytest.raises(ValueError, match="too large for their variance"):
        seen(ExactMoments(False), [np.array([1e300, -1e300])]).numbers()


@settings(max_examples=60, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=60), st.integers(0, 60), st.integers(2, 12), st.randoms())
def test_cells_are_the_same_in_any_split_order_and_merge(values: list[float], cut: int, most: int, random: Any) -> None:
    x = np.array(values)
    whole = seen(ValueCells(4, most), [x])
    shuffled = x.copy()
    random.shuffle(shuffled)
    left, right = (seen(ValueCells(4, most), [part]) for part in (shuffled[:cut], shuffled[cut:]))
    one_by_one = ValueCells(4, most)
    for value in shuffled:
        one_by_one.add(torch.tensor([value]))
        one_by_one._count_waiting()
    left.merge(right)
    assert left.numbers() == whole.numbers() == one_by_one.numbers()
    assert left.shift == whole.shift == one_by_one.shift


@settings(max_examples=60, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=60), st.integers(2, 10))
def test_boundaries_are_at_their_ranks_where_exact(values: list[float], buckets: int) -> None:
    ordered = sorted(v + 0.0 for v in values)
    wanted = sorted({ordered[k * len(values) // buckets] for k in range(1, buckets)} - {ordered[0]})
    numbers = seen(ValueCells(buckets, 1 << 10), [np.array(values)]).numbers()
    assert (numbers["boundaries"], numbers["rank_error"], numbers["count"]) == (wanted, 0, len(values))


def test_beyond_the_bound_the_error_is_as_stated() -> None:
    generator = np.random.default_rng(0)
    for x in (
        generator.normal(size=50_000),
        1.7e9 + 1e7 * generator.random(50_000),
        generator.lognormal(size=50_000) * -1,
    ):
        numbers = seen(ValueCells(10, 1 << 10), np.array_split(x, 7)).numbers()
        ordered = np.sort(x)
        assert 0 < numbers["rank_error"] < 0.02
        for k, boundary in enumerate(numbers["boundaries"], start=1):
            rank = int(np.searchsorted(ordered, boundary))
            assert ordered[rank] == boundary
            assert 0 <= k * len(x) // 10 - rank <= numbers["rank_error"] * len(x) + 1e-6


def test_an_unfitted_op_says_the_way_out() -> None:
    for op in (Quantile(4), Normalize(zscore=True)):
        with pytest.raises(NotFitted, match=rf"feature 'x', {op.kind}: .* engine.fit\(dataset\)"):
            engine_of(op)({"x": torch.tensor([1.0])})


def test_a_fit_and_what_it_gives() -> None:
    engine = engine_of(Quantile(4))
    assert not engine.fitted
    x = torch.arange(100.0)
    assert engine.fit([{"x": part} for part in x.split(7)]) is engine
    assert engine.fitted
    assert engine({"x": torch.tensor([-5.0, 24, 25, 74, 75, 1e9, math.nan])})["x"].tolist() == [0, 0, 1, 2, 3, 3, 3]
    scores = engine_of(Normalize(zscore=True)).fit([{"x": x}])({"x": x})["x"]
    assert scores.mean().item() == pytest.approx(0, abs=1e-6)
    assert scores.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    constant = engine_of(Normalize(zscore=True)).fit([{"x": torch.full((3,), 2.0)}])
    assert constant({"x": torch.tensor([2.0])})["x"].tolist() == [0]


def test_missing_values_are_left_out() -> None:
    x = torch.tensor([1.0, math.nan, 3.0])
    op = engine_of(Normalize(zscore=True)).fit([{"x": x}]).features["x"].ops[1]
    assert op.fitted == {"count": 2, "mean": 2.0, "std": 1.0}
    filled = engine_of(FillNull(2.0), Normalize(zscore=True)).fit([{"x": x}]).features["x"].ops[2]
    assert filled.fitted["count"] == 3


def test_a_chain_takes_a_pass_for_each_op() -> None:
    engine = engine_of(Normalize(log1p=True, zscore=True), Quantile(4))
    batches = [{"x": part} for part in torch.arange(1000.0).split(64)]
    assert engine.fit_passes == 2
    with pytest.raises(
        ValueError, match=r"feature 'x' has 2 fitted ops, .* \(Normalize, Quantile\), so fitting takes 2 passes"
    ):
        engine.fit(iter(batches))
    assert not engine.fitted
    engine.fit(batches)
    assert engine({"x": torch.tensor([0.0, 300, 600, 900])})["x"].tolist() == [0, 1, 2, 3]
    one = engine_of(Normalize(zscore=True))
    assert one.fit(iter(batches)).fitted


def test_a_second_fit_begins_anew() -> None:
    engine = engine_of(Normalize(zscore=True), Quantile(4))
    engine.fit([{"x": torch.arange(10.0)}])
    engine.fit([{"x": torch.arange(50.0)}])
    fresh = engine_of(Normalize(zscore=True), Quantile(4)).fit([{"x": torch.arange(50.0)}])
    assert engine.to_dict() == fresh.to_dict()


@pytest.mark.parametrize("stop", [0, 1, 4, 5])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_fit_that_breaks_off_leaves_the_engine(stop: int, error: type[BaseException]) -> None:
    """Broken off in the first pass or in the second."""

    class Breaking:
        given = 0

        def __iter__(self) -> Iterator[dict[str, Any]]:
            for _ in range(4):
                if self.given == stop:
                    raise error("stop")
                self.given += 1
                yield {"x": torch.arange(9.0)}

    for before in ([], [{"x": torch.arange(5.0)}]):
        engine = engine_of(Normalize(zscore=True), Quantile(4))
        if before:
            engine.fit(before)
        definition = engine.to_dict()
        with pytest.raises(error):
            engine.fit(Breaking())
        assert engine.to_dict() == definition


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "there was no batch to fit to"),
        ([{"x": torch.tensor([math.nan])}], "feature 'x', Quantile: there were no values to fit to"),
        ([{"x": torch.tensor([math.inf])}], "feature 'x', Quantile: an infinite value"),
        ([{"y": torch.tensor([1.0])}], "feature 'x', SelectField: the input has no field 'x'; it has y"),
    ],
)
def test_what_cannot_be_fitted_to(batches: Any, said: str) -> None:
    engine = engine_of(Quantile(4))
    with pytest.raises((ValueError, KeyError), match=said):
        engine.fit(batches)
    assert not engine.fitted


def test_a_data_set_has_its_position_back() -> None:
    class Positioned(list[Any]):
        position = 3

        def __iter__(self) -> Iterator[Any]:
            self.position = 0
            return super().__iter__()

        def state_dict(self) -> dict[str, int]:
            return {"position": self.position}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.position = state["position"]

    data = Positioned([{"x": torch.arange(9.0)}])
    engine_of(Quantile(4)).fit(data)
    assert data.position == 3


def test_fitted_numbers_are_exact_in_json() -> None:
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 1e-7
    engine = engine_of(Normalize(zscore=True), Quantile(100)).fit([{"x": x}])
    back = FeatureEngine.from_dict(json.loads(json.dumps(engine.to_dict())))
    assert bits(back({"x": x})) == bits(engine({"x": x}))
    assert back.digest() == engine.digest()


def test_what_stands_before_is_run_once_a_batch() -> None:
    engine = FeatureEngine([feature("x", "x", Mod(10), Quantile(4)), feature("y", "x", Mod(100))])
    engine.fit([{"x": torch.arange(1000)}])
    assert engine.features["x"].ops[2].fitted["boundaries"] == [2, 5, 7]
