"""encode and decode at the edges of float32: the reference's bytes, and what they say beside x in float64.

All rows are of one width, so that a backend that compiles does so once a codec.

Sizes: U rows, D dim.
"""

import numpy as np
import pytest
import torch

from recis_core.backends import RowCodec
from tests.contract.compare import assert_same
from tests.contract.recorded import Recorded
from tests.contract.row_cases import MAX, TINY, Rows
from tests.contract.test_codec import CODECS, encoded, name, reference_of
from tests.reference.codec import flush

D = 9
EDGES = (0.0, 1.4e-45, 1e-40, TINY, 1e-30, 2.0**-64, 2.0**-62, 1e-10, 1.0, 65504.0, 65520.0, 1e30, MAX / 2, MAX)
LARGEST = {"bf16": float.fromhex("0x1.fep127"), "lossless": float.fromhex("0x1.fep127"), "fp16": 65504.0}


def _rows() -> Rows:
    """Rows of one magnitude; of one number beside smaller ones; of signed zeros; of two ends; with NaN and inf."""
    rng = np.random.default_rng(1)
    alike = [edge * rng.uniform(0.3, 1, D) * rng.choice([-1, 1], D) for edge in EDGES]
    equal = [np.full(D, edge) * rng.choice([-1, 1], D) for edge in EDGES]
    single = [np.where(np.arange(D) == 4, edge, edge * small) for edge in EDGES for small in (0, 1e-3, 1e-20)]
    ends = [np.resize([MAX, -TINY, 1e-45, -1], D), np.resize([-0.0, 0.0], D), np.resize([MAX, -MAX], D)]
    odd = [np.resize([np.nan, 1], D), np.resize([1, np.inf, -MAX], D), np.resize([0, -np.inf], D)]
    with np.errstate(under="ignore"):
        values = np.array([*alike, *equal, *single, *ends, *odd]).astype(np.float32)
        residual = np.where(np.isfinite(values), values, 0)[::-1] * np.float32(1e-2)
    return Rows("edges", values, np.ascontiguousarray(residual))


def _bound(x: np.ndarray, scale: np.ndarray, codec: RowCodec) -> np.ndarray:
    """How far what is decoded may be from x, a float32 sum; rounding at random reaches twice as far as to nearest."""
    nearest = {
        "fp32": 0 * x,
        "bf16": np.abs(x) * 2.0**-8,
        "lossless": np.abs(x) * 2.0**-8,
        "fp16": np.maximum(np.abs(x) * 2.0**-11, 2.0**-25),
        "fp8": np.maximum(np.abs(x) * 2.0**-4, scale * 2.0**-10),
        "int8": scale / 2,
        "int4": scale / 2,
    }[codec.kind]
    return nearest * (2 if codec.stochastic else 1) * (1 + 1e-5) + 2.0**-23 * np.abs(x) + TINY


def _said(x: np.ndarray, codec: RowCodec) -> tuple[np.ndarray, np.ndarray]:
    """(what is to be decoded, a row's scale), float64: clamped, and zeros where a row is too small to be scaled."""
    top = np.abs(x).max(1, keepdims=True)
    if codec.kind in LARGEST or codec.kind == "fp32":
        largest = LARGEST.get(codec.kind, np.inf)
        return np.clip(x, -largest, largest), top
    scale = np.where(top >= 2.0**-63, top / {"fp8": 448, "int8": 127, "int4": 7}[codec.kind], 0)
    return np.where(top >= 2.0**-63, x, 0), scale


@pytest.mark.parametrize("with_residual", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("codec", CODECS, ids=name)
def test_rows_at_the_edges(backend: Recorded, codec: RowCodec, with_residual: bool) -> None:
    rows = _rows()
    got, want = (f(*a, rows, codec, with_residual=with_residual) for f, a in ((encoded, [backend]), (reference_of, [])))
    assert_same("codes", got.codes, torch.from_numpy(want.codes))
    decoded = backend.decode(got.codes, codec=codec, dim=D, tail=got.tail).double().numpy()
    with np.errstate(all="ignore"):
        x = flush(rows.values.astype(np.float64)) + (flush(rows.residual.astype(np.float64)) if with_residual else 0)
    finite = (np.abs(x) <= MAX).all(1)
    assert got.exact.tolist() == np.flatnonzero(~finite).tolist()
    assert np.isfinite(decoded).all()
    x, decoded = np.where(finite[:, None], x, 0), np.where(finite[:, None], decoded, 0)
    if codec.kind == "sign":
        _check_signs(x, decoded)
    else:
        said, scale = _said(x, codec)
        assert (np.abs(decoded - said) <= _bound(said, scale, codec)).all()
    if got.left is not None:
        left = got.left.double().numpy()
        assert np.isfinite(left).all()
        assert (np.abs(x - decoded - left) <= 2.0**-23 * (np.abs(x) + np.abs(decoded)) + 2 * TINY).all()


def _check_signs(x: np.ndarray, decoded: np.ndarray) -> None:
    """Every column is ± the row's mean size, at most 2¹²⁶; zeros where the row is too small."""
    size, top = np.abs(x), np.abs(x).max(1)
    mean = np.minimum(np.where(size < 2.0**-100, 0, size).mean(1), 2.0**126)
    want = np.where(top >= 2.0**-63, mean, 0)[:, None]
    assert (np.abs(np.abs(decoded) - want) <= 1e-5 * want).all()
