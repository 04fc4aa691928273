"""select_rows: the rows of largest norm, on every backend the same ones, ties to the lower position."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.contract.recorded import Recorded

DIMS = (1, 7, 8, 16, 64, 100, 123)


def rows(count: int, dim: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed + dim)
    return (rng.standard_normal((count, dim)) * 10.0 ** rng.uniform(-4, 4, (count, 1))).astype(np.float32)


def chosen(backend: Recorded, values: np.ndarray, k: int) -> list[int]:
    got = backend.select_rows(torch.from_numpy(values), k)
    assert got.dtype == torch.int64
    assert got.shape == (k,)
    return got.tolist()


@pytest.mark.parametrize("dim", DIMS)
def test_the_largest(backend: Recorded, dim: int) -> None:
    values = rows(200, dim)
    norms = np.sqrt((values.astype(np.float64) ** 2).sum(1))
    order = np.argsort(-norms, kind="stable")
    for k in (0, 1, 17, 199, 200):
        assert chosen(backend, values, k) == sorted(order[:k])


def test_no_rows(backend: Recorded) -> None:
    assert chosen(backend, np.zeros((0, 8), np.float32), 0) == []


@pytest.mark.parametrize("dim", DIMS)
def test_ties_go_to_the_lower_position(backend: Recorded, dim: int) -> None:
    values = np.repeat(rows(4, dim), 10, 0)[np.random.default_rng(1).permutation(40)]
    norms = np.sqrt((values.astype(np.float64) ** 2).sum(1))
    order = np.argsort(-norms, kind="stable")
    for k in range(0, 41, 3):
        assert chosen(backend, values, k) == sorted(order[:k])


def test_zeros_tie(backend: Recorded) -> None:
    values = np.zeros((9, 7), np.float32)
    values[4, 2], values[6] = 1e-25, -0.0
    assert chosen(backend, values, 3) == [0, 1, 2]


def test_what_is_not_finite_is_largest(backend: Recorded) -> None:
    values = rows(30, 8)
    values[3, 1], values[11, 7], values[20, 0], values[25] = np.nan, -np.inf, np.inf, 3e38
    assert chosen(backend, values, 3) == [3, 11, 20]
    assert chosen(backend, values, 4) == [3, 11, 20, 25]


@pytest.mark.parametrize("dim", DIMS)
def test_near_ties_fall_alike(backend: Recorded, dim: int) -> None:
    """Norms that differ by roundings alone: the same squares and the same order of sums, as in separate numpy code."""
    rng = np.random.default_rng(dim)
    values = np.stack([rng.permutation(row) for row in np.repeat(rows(1, dim), 60, 0)])
    order = np.argsort(-_norms(values), kind="stable")
    for k in (1, 10, 30, 59):
        assert chosen(backend, values, k) == sorted(order[:k])


def _norms(values: np.ndarray) -> np.ndarray:
    """Products in float64, where they are exact, rounded as the contract rounds: the small part, then the square."""
    high = (values.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32).astype(np.float64)
    low = values.astype(np.float64) - high
    part = (2 * high * low + low * low).astype(np.float32)
    square = (high * high + part.astype(np.float64)).astype(np.float32)
    width = 1 << (values.shape[1] - 1).bit_length()
    square = np.pad(square, ((0, 0), (0, width - values.shape[1])))
    while square.shape[1] > 1:
        square = square[:, : square.shape[1] // 2] + square[:, square.shape[1] // 2 :]
    return square[:, 0]


def test_what_raises(backend: Recorded) -> None:
    for k in (-1, 6):
        with pytest.raises(ValueError, match=f"k must lie in 0 … 5, the number of rows; got {k}"):
            backend.select_rows(torch.ones(5, 3), k)
    with pytest.raises(TypeError, match="values must be float32"):
        backend.select_rows(torch.ones(5, 3).half(), 2)
