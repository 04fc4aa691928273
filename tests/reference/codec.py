"""Rows as bytes in numpy, said as plainly as possible: numpy's and ml_dtypes' casts, float64 where they have none.

Sizes: U rows, D dim.
"""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np

LARGEST = {"fp8": 448, "int8": 127, "int4": 7}
FLOATS = {  # dtype, explicit mantissa bits, least normal exponent, largest number
    "bf16": (ml_dtypes.bfloat16, 7, -126, float.fromhex("0x1.fep127")),
    "fp16": (np.float16, 10, -14, 65504.0),
    "fp8": (ml_dtypes.float8_e4m3fn, 3, -6, 448.0),
}
F32 = np.float32


class Rows(NamedTuple):
    codes: np.ndarray  # uint8 [U, row_bytes]
    decoded: np.ndarray  # float32 [U, D]
    left: np.ndarray  # float32 [U, D]
    exact: np.ndarray  # int64 [E]
    exact_rows: np.ndarray  # float32 [E, D]
    clamped: int
    tail: np.ndarray | None
    tail_lengths: np.ndarray | None


def encode(values: np.ndarray, residual: np.ndarray | None, kind: str, word: np.ndarray | None) -> Rows:
    """word: uint32 [U, D] of noise, or None to round to nearest."""
    with np.errstate(over="ignore", invalid="ignore"):
        raw = values if residual is None else values + residual
        x = (
            raw
            if kind == "fp32" and residual is None
            else flush(raw if residual is None else flush(values) + flush(residual))
        )
    odd = ~np.isfinite(x).all(1)
    x = np.where(odd[:, None], F32(0), x)
    coded, decoded, clamped, tail, lengths = KINDS[kind](x, kind, word)
    left = flush(x - decoded)
    return Rows(coded, decoded, left, np.flatnonzero(odd), raw[odd], clamped, tail, lengths)


def flush(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < np.finfo(F32).tiny, np.copysign(F32(0), x), x)


def as_bytes(x: np.ndarray) -> np.ndarray:
    """[U, n] of anything -> uint8 [U, n · itemsize]."""
    return np.ascontiguousarray(x).view(np.uint8).reshape(len(x), x.shape[1] * x.itemsize)


def _fp32(x, kind, word):
    return as_bytes(x), x, 0, None, None


def _half(x, kind, word):
    dtype, _, _, largest = FLOATS[kind]
    clipped = np.clip(x, F32(-largest), F32(largest))
    code = clipped.astype(dtype) if word is None else noisy_float(clipped, word, kind)
    return as_bytes(code), code.astype(F32), int((np.abs(x) > largest).sum()), None, None


def noisy_float(x: np.ndarray, word: np.ndarray, kind: str) -> np.ndarray:
    """Up where the part that is cut, in units of the last bit kept, and the noise reach 1."""
    dtype, bits, least, _ = FLOATS[kind]
    exponent = np.maximum(np.frexp(x.astype(np.float64))[1] - 1, least)
    unit = np.exp2(exponent - bits, dtype=np.float64)
    # Of the float32's own bits, so many are cut; noise has as many, at most 31.
    cut = np.clip(23 - bits + np.maximum(least - (np.frexp(x.astype(np.float64))[1] - 1), 0), 0, 200)
    noise = np.where(cut > 31, word >> 1, word >> np.minimum(32 - np.minimum(cut, 31), 31).astype(np.uint32)) / np.exp2(
        np.minimum(cut, 31), dtype=np.float64
    )
    share = np.abs(x.astype(np.float64)) / unit
    share = np.where(cut > 31, np.floor(share * 2.0**31) / 2.0**31, share)
    rounded = np.floor(share + noise) * unit
    return np.copysign(rounded, x).astype(dtype)


def scale_of(x: np.ndarray, largest: int) -> np.ndarray:
    top = np.abs(x).max(1, initial=0)
    bound = np.nextafter(F32(np.finfo(F32).max / F32(largest)), F32(0))
    scale = np.minimum(top * F32(1 / largest), bound)
    return np.where(top >= 2.0**-63, scale, F32(0)).astype(F32)


def ratio_of(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.divide(x, scale[:, None], out=np.zeros_like(x), where=scale[:, None] > 0)


def _scaled(x, kind, word):
    largest = LARGEST[kind]
    scale = scale_of(x, largest)
    ratio = np.clip(ratio_of(x, scale), F32(-largest), F32(largest))
    if kind == "fp8":
        code = ratio.astype(FLOATS["fp8"][0]) if word is None else noisy_float(ratio, word, "fp8")
        stored = as_bytes(code)
    else:
        code = np.rint(ratio) if word is None else np.floor(dusted(ratio) + uniform(word))
        code = np.clip(code, -largest, largest).astype(np.int8)
        stored = as_bytes(code) if kind == "int8" else nibbles(code)
    decoded = code.astype(F32) * scale[:, None]
    return np.concatenate([as_bytes(scale[:, None]), stored], 1), decoded, 0, None, None


def dusted(ratio: np.ndarray) -> np.ndarray:
    return np.where(np.abs(ratio) < 2.0**-100, F32(0), ratio)


def uniform(word: np.ndarray) -> np.ndarray:
    return (word >> np.uint32(8)).astype(F32) * F32(2.0**-24)


def nibbles(code: np.ndarray) -> np.ndarray:
    out = np.zeros((len(code), -(-code.shape[1] // 2)), np.uint8)
    for column in range(code.shape[1]):
        out[:, column // 2] |= ((code[:, column].view(np.uint8) & 15) << (4 * (column % 2))).astype(np.uint8)
    return out


def mean_size(x: np.ndarray) -> np.ndarray:
    dim = x.shape[1]
    size = 1 << (dim - 1).bit_length()
    part = np.zeros((len(x), size), F32)
    part[:, :dim] = np.where(np.abs(x) < 2.0**-100, 0, np.abs(x)) / F32(size)
    while part.shape[1] > 1:
        part = part[:, : part.shape[1] // 2] + part[:, part.shape[1] // 2 :]
    mean = np.minimum(part[:, 0] * F32(size / dim), F32(2.0**126))
    cleared = (mean.view(np.uint32) & np.uint32(0xFFFFFFFE)).view(F32)
    return np.where(np.abs(x).max(1, initial=0) >= 2.0**-63, cleared, F32(0)).astype(F32)


def _sign(x, kind, word):
    scale = mean_size(x)
    negative = np.signbit(x) if word is None else ~(2 * uniform(word) - 1 < dusted(ratio_of(x, scale)))
    negative &= scale[:, None] > 0
    decoded = np.where(negative, -scale[:, None], scale[:, None])
    packed = np.packbits(negative, axis=1, bitorder="little")
    return np.concatenate([as_bytes(scale[:, None]), packed], 1), decoded, 0, None, None


def _lossless(x, kind, word):
    largest = FLOATS["bf16"][3]
    half = np.clip(x, F32(-largest), F32(largest)).astype(ml_dtypes.bfloat16)
    bits = half.view(np.uint16)
    exponent = (bits >> 7 & 255).astype(np.int64)
    top = exponent.max(1, initial=0)
    rows, tail, lengths = [], [], []
    for row in range(len(x)):
        delta = np.minimum(top[row] - exponent[row], 7)
        escaped = exponent[row][delta == 7]
        three = np.packbits(((delta[:, None] >> np.arange(3)) & 1).reshape(-1), bitorder="little")
        rows.append([top[row], *((bits[row] >> 8 & 128) | (bits[row] & 127)), *three])
        tail += list(escaped)
        lengths.append(len(escaped))
    width = 1 + x.shape[1] + -(-3 * x.shape[1] // 8)
    codes = np.array(rows, np.uint8).reshape(len(x), width)
    clamped = int((np.abs(x) > largest).sum())
    return codes, half.astype(F32), clamped, np.array(tail, np.uint8), np.array(lengths, np.int32)


KINDS = {
    "fp32": _fp32, "bf16": _half, "fp16": _half, "fp8": _scaled, "int8": _scaled, "int4": _scaled,
    "sign": _sign, "lossless": _lossless,
}  # fmt: skip
