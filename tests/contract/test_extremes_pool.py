"""pool and pool_grad at the edges of float32: what weights and rows of any magnitude give, beside float64.

An element may be off by the usual share of what was added up for it: Σ |w·e| over the divisor, for what cancels is
lost in any float32 sum. What is below the least normal number may read as zero. One batch holds all bags of weights,
so that a backend that compiles does so once a combiner.

Sizes: N ids, U rows, B bags, D dim.
"""

import os

import numpy as np
import pytest
import torch

from tests.contract.compare import RTOL
from tests.contract.recorded import Recorded
from tests.reference import pooling

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
TINY, MAX = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
U, D = 7, 6
BAGS = {
    "ordinary": (0.5, 1, 2, 0.25),
    "empty": (),
    "softmax_far_below": tuple(np.exp(-np.array([88.0, 90, 95, 103]))),
    "one_subnormal": (1e-40,),
    "least_subnormal": (1.4e-45, 1.4e-45, 2.8e-45),
    "subnormal_beside_least_normal": (1.5e-38, 8e-39, -3e-39),
    "tiny": (1e-30, 3e-30, 2e-31),
    "squares_underflow": (1e-20, 3e-23, 2e-21, 1e-22),
    "squares_overflow": (1e20, 3e22, 2e19),
    "huge": (1e30, 3e29),
    "sum_overflows": (3e38, 2e38, 3.4e38, 1e38),
    "largest": (MAX, MAX, MAX),
    "negative": (-1, -0.5, -3),
    "negative_subnormal": (-1e-40, -3e-41),
    "negative_huge": (-3e38, -2.5e38),
    "from_end_to_end": (1e-45, 1e-38, 1e-20, 1, 1e20, 1e38),
    "from_end_to_end_down": (1e38, 1e20, 1, 1e-20, 1e-38, 1e-45),
    "half_cancels": (1e30, -5e29, 1e30),
    "half_cancels_subnormal": (1e-40, -5e-41, 1e-40),
    "half_cancels_at_the_top": (3e38, -1.5e38),
    "cancels": (1, -1),
    "cancels_huge": (3e38, -3e38),
    "cancels_subnormal": (1e-42, -1e-42),
    "zeros": (0, -0.0),
    "zeros_and_a_subnormal": (0, 1e-42, -0.0),
    "nan": (1, np.nan, 2),
    "inf": (np.inf, 1),
    "minus_inf": (1, -np.inf, np.inf),
}
ROWS = {"1": 1.0, "1e-30": 1e-30, "1e30": 1e30} if FULL else {"1": 1.0, "1e30": 1e30}
COMBINERS = ("sum", "mean", "sqrtn", "tile", "none")
DTYPES = (torch.float32, torch.bfloat16, torch.float16) if FULL else (torch.float32,)


def _weights() -> np.ndarray:
    with np.errstate(under="ignore"):
        return np.concatenate([np.array(w, np.float64) for w in BAGS.values()]).astype(np.float32)


def _offsets() -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(w) for w in BAGS.values()])])


def _rows(scale: float, dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn((U, D), generator=torch.Generator().manual_seed(1)) * scale).to(dtype)


def _inverse(count: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, U, count).astype(np.int32)


def _near(
    name: str, got: torch.Tensor, want: np.ndarray, bound: np.ndarray, rtol: float, floor: np.ndarray | float = 0.0
) -> None:
    """Where nothing overflows: within rtol of what was added up; NaN where NaN is wanted. floor: what flushing costs."""
    dtype = torch.finfo(got.dtype)
    assert got.shape == want.shape, f"{name}: shape {tuple(got.shape)}, wanted {want.shape}"
    value = got.double().numpy()
    np.testing.assert_array_equal(np.isnan(value)[np.isnan(want)], True, err_msg=f"{name}: NaN is wanted")
    fits = ~np.isnan(want) & (bound < dtype.max / 4)
    with np.errstate(invalid="ignore"):
        off = np.abs(value - want)[fits] > (rtol * bound + floor + dtype.tiny)[fits]
    assert not off.any(), (
        f"{name}: {value[fits][off][:4]}, wanted {want[fits][off][:4]} ± {bound[fits][off][:4] * rtol}"
    )


def _labels(combiner: str) -> list[str]:
    counts = [len(w) if combiner == "none" else 1 for w in BAGS.values()]
    return [name for name, count in zip(BAGS, counts, strict=True) for _ in range(count)]


def _floor(combiner: str, rows: np.ndarray) -> list[float]:
    """Of each output: a term below TINY, or a subnormal weight where none is lifted, counts as zero."""
    if combiner not in ("mean", "sqrtn"):
        return [TINY * max(1.0, float(np.abs(rows).max())) * len(BAGS)] * len(_labels(combiner))
    floors = []
    for bag in BAGS.values():
        w = np.array(bag, np.float32).astype(np.float64)
        top = np.abs(w).max(initial=0)
        lift = 0.0 if not np.isfinite(top) or top == 0 else np.exp2(-np.clip(np.floor(np.log2(top)) + 1, -125, 126))
        by = abs(pooling.divisor(w, combiner)) * lift
        floors.append(TINY * len(bag) / by if by > 0 else 0.0)
    return floors


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("combiner", COMBINERS)
def test_weights_of_any_magnitude(backend: Recorded, combiner: str, dtype: torch.dtype) -> None:
    weights, offsets, tile = _weights(), _offsets(), 3 if combiner == "tile" else None
    inverse = _inverse(len(weights))
    arrays = (torch.from_numpy(inverse), torch.from_numpy(offsets), torch.from_numpy(weights))
    forward, backward = RTOL[dtype][0], RTOL[torch.float32][1]
    for scale in ROWS.values() if dtype != torch.float16 else [1.0]:
        rows = _rows(scale, dtype)
        plain = (rows.double().numpy(), inverse, offsets, weights, combiner, tile)
        with np.errstate(all="ignore"):
            out, bound = pooling.pool(*plain), _bound(*plain)
        got, floor = backend.pool(rows, *arrays, combiner=combiner, tile_len=tile), _floor(combiner, plain[0])
        for b, name in enumerate(_labels(combiner)):
            _near(f"{name}, rows {scale}", got[b], out[b], bound[b], forward, floor[b])
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
        to_rows, to_weights = backend.pool_grad(
            grad, rows, *arrays, combiner=combiner, tile_len=tile, weights_need_grad=True
        )
        _check_grad(f"rows {scale}", (to_rows, to_weights), grad.double().numpy(), plain, backward)


def _bound(rows, inverse, offsets, weights, combiner, tile) -> np.ndarray:
    """Σ |w·e| over |divisor|; where the divisor cancels, over its own."""
    sizes = pooling.pool(np.abs(rows), inverse, offsets, np.abs(weights), "sum" if tile is None else combiner, tile)
    if combiner == "none":
        return np.abs(rows[inverse] * weights[:, None].astype(np.float64))
    by = [abs(pooling.divisor(w.astype(np.float64), combiner)) for w in np.split(weights, offsets[1:-1])]
    return sizes / np.where(np.array(by) == 0, 1, by)[:, None]


def _check_grad(name: str, got: tuple, grad: np.ndarray, plain: tuple, rtol: float) -> None:
    rows, inverse, offsets, weights, combiner, tile = plain
    with np.errstate(all="ignore"):
        want, want_weights = pooling.pool_grad(grad, *plain)
        of_bag = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        by = np.array([abs(pooling.divisor(w.astype(np.float64), combiner)) for w in np.split(weights, offsets[1:-1])])
        share = np.divide(1, by, out=np.zeros_like(by), where=by != 0)[of_bag]
        through = np.abs(weights) * share
        sums = np.zeros_like(want)
        np.add.at(sums, inverse, through[:, None] * np.abs(grad).max())
        _near(f"gradient to rows, {name}", got[0], want, sums, rtol)
        out = np.abs(_bound(*plain)).max(1)[np.arange(len(of_bag)) if combiner == "none" else of_bag]
        lost = np.repeat(_floor(combiner, rows), np.diff(offsets)) if combiner in ("mean", "sqrtn") else 0
        sizes = (np.abs(rows).sum(1)[inverse] + rows.shape[1] * out) * np.abs(grad).max() * share
        lost = 2 * lost * rows.shape[1] * np.abs(grad).max() * share
        _near(f"gradient to weights, {name}", got[1], want_weights, sizes, rtol, lost)
