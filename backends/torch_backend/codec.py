"""Rows as bytes and back; backends.interface.Backend.encode has the formats and the arithmetic.

Sizes: U rows, D dim, T bytes of tail.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.encoded_rows import check_decode, check_encode, exact_part
from recis_core.backends.initial_values import WIRE
from recis_core.backends.records import EncodedRows, RowNoise
from recis_core.backends.row_codes import (
    CLAMPS,
    FP8,
    FP16,
    LARGEST,
    LEAST_ADDEND,
    LEAST_TOP,
    MAX_MEAN,
    inverse,
    mean_factors,
    scale_cap,
)
from recis_core.backends.spec import RowCodec
from recis_core.backends.torch_backend.initial_values import words
from recis_core.backends.torch_backend.lossless import from_lossless, packed_bits, to_lossless, unpacked_bits
from recis_core.backends.torch_backend.rounding import flushed, to_bfloat16, to_small_float
from recis_core.backends.torch_backend.select_rows import folded_sum


def encode(
    values: Tensor, residual: Tensor | None = None, *, codec: RowCodec, noise: RowNoise | None = None
) -> EncodedRows:
    check_encode(values, residual, codec, noise)
    values = values.detach().contiguous()
    x = _summed(values, residual, codec.kind)
    finite = x.isfinite().all(1)
    x = torch.where(finite[:, None], x, 0.0)
    bound = CLAMPS.get(codec.kind, float("inf"))
    codes, tail, lengths = _coded(x.clamp(-bound, bound), _words(noise, x.shape[1]), codec.kind)
    left = None if residual is None else flushed(x - decode(codes, codec=codec, dim=x.shape[1], tail=tail))
    exact, rows = exact_part(values, residual, finite)
    return EncodedRows(codes, left, exact, rows, int((x.abs() > bound).sum()), tail, lengths)


def decode(codes: Tensor, *, codec: RowCodec, dim: int, tail: Tensor | None = None) -> Tensor:
    check_decode(codes, codec, dim, tail)
    kind = codec.kind
    if tail is not None:
        return _from_upper_half(from_lossless(codes, dim, tail))
    if kind == "fp32":
        return _viewed(codes, torch.float32)
    if kind in ("bf16", "fp16"):
        return _viewed(codes, torch.bfloat16 if kind == "bf16" else torch.float16).float()
    return _numbers(codes[:, 4:], kind, dim) * _viewed(codes[:, :4], torch.float32)


def _summed(values: Tensor, residual: Tensor | None, kind: str) -> Tensor:
    if residual is not None:
        return flushed(flushed(values) + flushed(residual))
    return values if kind == "fp32" else flushed(values)


def _words(noise: RowNoise | None, dim: int) -> Tensor | None:
    return None if noise is None else words(noise.seed, noise.uids, noise.ids, dim, WIRE | noise.t)


def _coded(x: Tensor, word: Tensor | None, kind: str) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(bytes, tail, tail lengths)."""
    if kind == "lossless":
        return to_lossless(to_bfloat16(x, None))
    if kind == "fp32":
        return _bytes(x), None, None
    if kind in ("bf16", "fp16"):
        code = to_bfloat16(x, word) if kind == "bf16" else to_small_float(x, word, FP16)
        return _bytes(code.to(torch.int16)), None, None
    scale = _mean(x) if kind == "sign" else _scale(x, kind)
    code = _signs(x, scale, word) if kind == "sign" else _scaled(x, scale, word, kind)
    return torch.cat([_bytes(scale), code], 1), None, None


def _scale(x: Tensor, kind: str) -> Tensor:
    """float32 [U, 1]."""
    top = x.abs().amax(1, keepdim=True)
    scale = (top * inverse(LARGEST[kind])).clamp(max=scale_cap(LARGEST[kind]))
    return torch.where(top >= LEAST_TOP, scale, 0.0)


def _mean(x: Tensor) -> Tensor:
    """float32 [U, 1], the last bit cleared: a step that no compiler can fuse across."""
    share, factor = mean_factors(x.shape[1])
    size = x.abs()
    total = folded_sum(torch.where(size < LEAST_ADDEND, 0.0, size) * share)[:, None]
    mean = ((total * factor).clamp(max=MAX_MEAN).view(torch.int32) & -2).view(torch.float32)
    return torch.where(size.amax(1, keepdim=True) >= LEAST_TOP, mean, 0.0)


def _ratio(x: Tensor, scale: Tensor) -> Tensor:
    return torch.where(scale > 0, x / torch.where(scale > 0, scale, 1.0), 0.0)


def _scaled(x: Tensor, scale: Tensor, word: Tensor | None, kind: str) -> Tensor:
    ratio = _ratio(x, scale).clamp(-LARGEST[kind], LARGEST[kind])
    if kind == "fp8":
        return to_small_float(ratio, word, FP8).to(torch.uint8)
    code = ratio.round() if word is None else _noisy(ratio, word).clamp(-LARGEST[kind], LARGEST[kind])
    return code.to(torch.int8).view(torch.uint8) if kind == "int8" else _halves_joined(code.to(torch.int32) & 15)


def _noisy(ratio: Tensor, word: Tensor) -> Tensor:
    return (_no_dust(ratio) + (word >> 8).float() * 2.0**-24).floor()


def _no_dust(ratio: Tensor) -> Tensor:
    return torch.where(ratio.abs() < LEAST_ADDEND, 0.0, ratio)


def _signs(x: Tensor, scale: Tensor, word: Tensor | None) -> Tensor:
    negative = x.signbit() if word is None else _threshold(word) >= _no_dust(_ratio(x, scale))
    return packed_bits(negative & (scale > 0))


def _threshold(word: Tensor) -> Tensor:
    """In −1 … 1."""
    return (word >> 8).float() * 2.0**-23 - 1


def _halves_joined(code: Tensor) -> Tensor:
    """Four bits each [U, D] -> uint8 [U, ⌈D/2⌉]."""
    code = torch.nn.functional.pad(code, (0, code.shape[1] % 2))
    return (code[:, ::2] | code[:, 1::2] << 4).to(torch.uint8)


def _numbers(codes: Tensor, kind: str, dim: int) -> Tensor:
    """What the codes say before they are scaled, float32 [U, D]."""
    if kind == "sign":
        return 1.0 - 2.0 * unpacked_bits(codes, dim).float()
    if kind == "int4":
        both = torch.stack([codes & 15, codes >> 4], 2).flatten(1)[:, :dim]
        return ((both.to(torch.int32) ^ 8) - 8).float()
    return _viewed(codes, torch.int8 if kind == "int8" else torch.float8_e4m3fn).float()


def _bytes(x: Tensor) -> Tensor:
    """[U, n] -> uint8 [U, n · itemsize]."""
    return x.contiguous().view(-1).view(torch.uint8).view(len(x), x.shape[1] * x.itemsize)


def _viewed(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """Copied, for a row's bytes may start anywhere."""
    return codes.clone(memory_format=torch.contiguous_format).view(dtype)


def _from_upper_half(code: Tensor) -> Tensor:
    return (code << 16).to(torch.int32).view(torch.float32)
