"""Shared by every backend's encode and decode: checks of arguments, and the rows that are sent unencoded.

Sizes: U rows, D dim, E exact rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.records import RowNoise
from recis_core.backends.spec import RowCodec


def check_encode(values: Tensor, residual: Tensor | None, codec: RowCodec, noise: RowNoise | None) -> None:
    _check_rows("values", values)
    if residual is not None:
        _check_rows("residual", residual)
        if residual.shape != values.shape:
            raise ValueError(f"residual must have shape {list(values.shape)}; got {list(residual.shape)}.")
    if codec.stochastic != (noise is not None):
        raise ValueError(f"noise goes with stochastic codecs, and only with them; got {codec} and noise={noise}.")
    if noise is not None:
        _check_noise(noise, len(values))


def _check_rows(name: str, rows: Tensor) -> None:
    if rows.dtype != torch.float32:
        raise TypeError(f"{name} must be float32; got {rows.dtype}.")
    if rows.ndim != 2 or rows.shape[1] < 1:
        raise ValueError(f"{name} must have shape [U, D] with D ≥ 1; got {list(rows.shape)}.")


def _check_noise(noise: RowNoise, rows: int) -> None:
    for name, keys in (("uids", noise.uids), ("ids", noise.ids)):
        if keys.dtype != torch.int64 or tuple(keys.shape) != (rows,):
            raise ValueError(f"noise.{name} must be int64 [{rows}]; got {keys.dtype} {list(keys.shape)}.")
    if not 0 <= noise.t < 1 << 31:
        raise ValueError(f"noise.t must lie in 0 … 2³¹ − 1; got {noise.t}.")


def check_decode(codes: Tensor, codec: RowCodec, dim: int, tail: Tensor | None) -> None:
    width = codec.row_bytes(dim)
    if codes.dtype != torch.uint8 or codes.ndim != 2 or codes.shape[1] != width:
        raise ValueError(
            f"codes must be uint8 [U, {width}] for {codec.kind} rows of dim {dim}; got {codes.dtype} {list(codes.shape)}."
        )
    if (codec.kind == "lossless") != (tail is not None):
        raise ValueError(f"tail goes with lossless rows, and only with them; got {codec.kind} and tail={tail}.")
    if tail is not None and (tail.dtype != torch.uint8 or tail.ndim != 1):
        raise ValueError(f"tail must be uint8 [T]; got {tail.dtype} {list(tail.shape)}.")


def check_tail(tail: Tensor, escapes: int) -> None:
    if len(tail) != escapes:
        raise ValueError(f"tail must hold {escapes} exponents, as many as the codes have escapes; got {len(tail)}.")


def exact_part(values: Tensor, residual: Tensor | None, finite: Tensor) -> tuple[Tensor, Tensor]:
    """(positions int64 [E], x float32 [E, D]) of the rows that are not finite; finite: bool [U]."""
    exact = (~finite).nonzero().reshape(-1)
    rows = values.index_select(0, exact)
    return exact, rows if residual is None else rows + residual.index_select(0, exact)


def check_select(values: Tensor, k: int) -> None:
    _check_rows("values", values)
    if not 0 <= k <= len(values):
        raise ValueError(f"k must lie in 0 … {len(values)}, the number of rows; got {k}.")
