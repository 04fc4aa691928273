"""Expected unique ids: against the sum over every id, and against draws. Sizes: N ids, R rows, B samples."""

import numpy as np
import pytest

from recis_core.planning.model_file import Feature, Measured, TableSize
from recis_core.planning.popularity import groups, shares
from recis_core.planning.unique_ids import demand, expected_unique, fit_skew
from tests.planning.test_popularity import exact_shares


def table(rows, *features):
    return TableSize(name="t", rows=rows, dim=4, features=features)


@pytest.mark.parametrize("rows", [1, 3, 1000, 20_000, 3_000_000])
@pytest.mark.parametrize("skew", [0.0, 0.8, 1.05, 2.0])
def test_as_summed_over_every_id(rows, skew):
    for ids in (1, 100, 106_496, 10_000_000):
        with np.errstate(divide="ignore"):
            want = -np.expm1(ids * np.log1p(-exact_shares(rows, skew, 0, 0))).sum()
        edges = groups(rows)
        assert expected_unique(edges, shares(edges, skew), ids) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(("rows", "skew", "hot"), [(50, 1.05, 0.0), (30_000, 1.05, 0.0), (30_000, 0.6, 0.5)])
def test_as_drawn(rows, skew, hot):
    """The mean of 40 draws, within four of its standard errors."""
    random, n = np.random.default_rng(0), 20_000
    p = exact_shares(rows, skew, 0, hot)
    counts = np.array([len(np.unique(random.choice(rows, n, p=p))) for _ in range(40)])
    got = demand(table(rows, Feature(pooling_factor=2.5, skew=skew, hot=hot)), 8000)
    assert got.ids == n
    assert abs(got.unique - counts.mean()) <= 4 * max(counts.std(ddof=1), 0.1) / np.sqrt(40)


def test_features_that_share_a_table_share_its_ids():
    """Two features draw as one of twice the pooling factor does; and as two draws of their own laws do."""
    one = demand(table(30_000, Feature(pooling_factor=4, skew=1.1)), 1000)
    two = demand(table(30_000, *[Feature(pooling_factor=2, skew=1.1)] * 2), 1000)
    assert two.unique == pytest.approx(one.unique, rel=1e-12)
    random = np.random.default_rng(1)
    laws = [exact_shares(5000, skew, 0, 0) for skew in (0.5, 1.5)]
    drawn = [len(np.unique(np.concatenate([random.choice(5000, 2000, p=p) for p in laws]))) for _ in range(40)]
    got = demand(table(5000, *(Feature(pooling_factor=2, skew=s) for s in (0.5, 1.5))), 1000).unique
    assert abs(got - np.mean(drawn)) <= 4 * np.std(drawn) / np.sqrt(40)


def test_a_step_of_more_forwards_asks_for_more_ids():
    t = table(30_000, Feature(pooling_factor=1))
    got, longer = demand(t, 1000, accumulate=4), demand(t, 4000)
    np.testing.assert_allclose(got.step, longer.forward, rtol=1e-12)
    assert got.unique < longer.unique < 4 * got.unique


def test_cold_ids_are_those_beyond_the_hot_ones():
    got = demand(table(100_000, Feature(pooling_factor=1)), 10)
    assert got.cold(0).sum() == 100_000
    assert got.cold(12_345).sum() == 100_000 - 12_345
    assert got.cold(12_345)[:12_345].sum() == 0
    assert got.cold(99_999).sum() == 1


@pytest.mark.parametrize("skew", [0.3, 0.9, 1.05, 1.7])
def test_the_skew_is_found_from_a_count(skew):
    edges = groups(10**7)
    unique = round(expected_unique(edges, shares(edges, skew), 50_000))
    assert fit_skew(10**7, Measured(ids=50_000, unique=unique)) == pytest.approx(skew, abs=0.01)


def test_counts_that_no_skew_gives_are_refused():
    with pytest.raises(ValueError, match=r"between 2 and 632 different ones, whatever the skew; got 900"):
        fit_skew(1000, Measured(ids=1000, unique=900))
    with pytest.raises(ValueError, match=r"table t: measured: 1,000 ids over 1,000 rows"):
        demand(table(1000, Feature(pooling_factor=1, measured=Measured(ids=1000, unique=900))), 8)
    assert fit_skew(3, Measured(ids=4096, unique=2)) > 5
    assert fit_skew(1000, Measured(ids=1000, unique=635)) == pytest.approx(0, abs=1e-6)


def test_extremes_stay_finite():
    for feature in (
        Feature(pooling_factor=1e6, skew=10.0),
        Feature(pooling_factor=1, hot=1.0),
        Feature(pooling_factor=1e-4),
    ):
        got = demand(table(10**15, feature), 100_000)
        assert np.isfinite(got.forward).all()
        assert 0 < got.unique <= got.ids
