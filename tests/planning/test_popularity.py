"""Power laws on groups of ids, against every id by itself. Sizes: R rows."""

import time

import numpy as np
import pytest

from recis_core.planning.popularity import EXACT, groups, shares


def exact_shares(rows, skew, shift, hot):
    p = (np.arange(1, rows + 1) + shift) ** -skew
    p *= (1 - hot) / p.sum()
    p[0] += hot
    return p


@pytest.mark.parametrize("rows", [1, 2, 7, EXACT - 1, EXACT, EXACT + 1, EXACT + 200, 100_000, 3_000_000])
def test_groups_hold_every_row_once(rows):
    edges = groups(rows)
    assert edges[0] == 1
    assert edges[-1] == rows + 1
    assert (np.diff(edges) >= 1).all()
    assert (edges == np.floor(edges)).all()


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0, 1.0 + 1e-13, 1.05, 2.0, 9.0])
@pytest.mark.parametrize(
    ("rows", "shift", "hot"), [(1, 0.0, 0.0), (123, 0.5, 0.3), (2_000_000, 0.0, 0.0), (50_000, 7.0, 1.0)]
)
def test_shares_are_those_of_single_ids(rows, skew, shift, hot):
    edges = groups(rows)
    widths = np.diff(edges)
    got, want = shares(edges, skew, shift, hot), exact_shares(rows, skew, shift, hot)
    assert (got * widths).sum() == pytest.approx(1, rel=1e-12)
    summed = np.add.reduceat(want, (edges[:-1] - 1).astype(int))
    np.testing.assert_allclose(got * widths, summed, rtol=1e-8, atol=1e-15)


def test_a_quadrillion_rows_are_few_groups_and_quick():
    begin = time.perf_counter()
    edges = groups(10**15)
    share = shares(edges, 1.05)
    assert time.perf_counter() - begin < 1
    assert edges[-1] == 10**15 + 1
    assert len(share) < 20_000
    assert (np.diff(share) <= 0).all()
    # ζ(1.05) = 20.5808 for infinitely many rows, less the tail ∫ x^-1.05 beyond 10^15.
    assert 1 / share[0] == pytest.approx(20.5808444 - (10**15) ** -0.05 / 0.05, rel=1e-6)
