"""Rows as bytes and back, a row at a time in blocks over threads; backends.interface.Backend.encode has the formats.

Sizes: U rows, D dim, T bytes of tail.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import prange
from torch import Tensor

from recis_core.backends.encoded_rows import check_decode, check_encode, check_tail, exact_part
from recis_core.backends.initial_values import WIRE
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel
from recis_core.backends.numba_backend.initial_values import EXPONENT, FRACTION, fill_words
from recis_core.backends.numba_backend.lossless import escapes_of, get_lossless, put_lossless
from recis_core.backends.numba_backend.rounding import (
    SIGN,
    SIXTEEN,
    SIZE,
    clamped,
    flushed,
    to_bfloat16,
    to_small_float,
)
from recis_core.backends.numba_backend.scaled_rows import (
    get_fp8,
    get_int4,
    get_int8,
    get_sign,
    put_fp8,
    put_int4,
    put_int8,
    put_sign,
)
from recis_core.backends.records import EncodedRows, RowNoise
from recis_core.backends.row_codes import CLAMPS, FP16
from recis_core.backends.spec import CODEC_IDS, RowCodec

FP32_ID, BF16_ID, FP16_ID, FP8_ID, INT8_ID, INT4_ID, SIGN_ID, LOSSLESS_ID = CODEC_IDS.values()
FP16_MANTISSA, FP16_LEAST, FP16_LARGEST = np.int32(FP16.mantissa), np.int32(FP16.least), np.uint32(FP16.top)
FP16_SIGN, FP16_SIZE, FP16_FULL = np.uint32(0x8000), np.uint32(0x7FFF), np.uint32(0x0F800000)
FP16_SCALE = np.float32(2.0**112)  # a float16's exponent in a float32's place reads so much too small
INFINITE = np.uint32(0x7F800000)  # bits: past every finite number, so nothing is clamped
BLOCK = 64  # rows a thread takes at a time
NO_KEYS, NO_ROWS = np.zeros(0, np.int64), np.zeros((0, 0), np.float32)


def encode(
    values: Tensor, residual: Tensor | None = None, *, codec: RowCodec, noise: RowNoise | None = None
) -> EncodedRows:
    check_encode(values, residual, codec, noise)
    rows, dim = values.shape
    x, r = _numpy(values), NO_ROWS if residual is None else _numpy(residual)
    codes, left = np.empty((rows, codec.row_bytes(dim)), np.uint8), np.empty(r.shape, np.float32)
    finite, over = np.empty(rows, np.bool_), np.zeros(-(-rows // BLOCK), np.int64)
    escapes = np.empty((rows, dim if codec.kind == "lossless" else 0), np.uint8)
    lengths = np.zeros(rows if codec.kind == "lossless" else 0, np.int32)
    bound = np.float32(CLAMPS.get(codec.kind, np.inf)).view(np.uint32)
    into = codes, left, finite, over, escapes, lengths
    encode_rows(codec.number, noise is not None, bound, x, r, *_keys(noise), *into)
    exact, exact_rows = exact_part(values.detach(), residual, torch.from_numpy(finite))
    tail = _tail(escapes, lengths) if codec.kind == "lossless" else (None, None)
    back = None if residual is None else torch.from_numpy(left)
    return EncodedRows(torch.from_numpy(codes), back, exact, exact_rows, int(over.sum()), *tail)


def decode(codes: Tensor, *, codec: RowCodec, dim: int, tail: Tensor | None = None) -> Tensor:
    check_decode(codes, codec, dim, tail)
    rows, out = _numpy(codes), np.empty((len(codes), dim), np.float32)
    ends = np.zeros(len(rows) + 1, np.int64)
    if tail is not None:
        count_escapes(rows, dim, ends[1:])
        np.cumsum(ends, out=ends)
        check_tail(tail, int(ends[-1]))
    decode_rows(codec.number, rows, np.zeros(0, np.uint8) if tail is None else _numpy(tail), ends, out)
    return torch.from_numpy(out)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _keys(noise: RowNoise | None) -> tuple[np.uint64, np.ndarray, np.ndarray, np.uint32]:
    if noise is None:
        return np.uint64(0), NO_KEYS, NO_KEYS, np.uint32(0)
    seed = np.uint64(noise.seed & 0xFFFFFFFFFFFFFFFF)
    return seed, _numpy(noise.uids), _numpy(noise.ids), np.uint32(WIRE | noise.t)


def _tail(escapes: np.ndarray, lengths: np.ndarray) -> tuple[Tensor, Tensor]:
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    tail = np.empty(ends[-1], np.uint8)
    join_escapes(escapes, ends, tail)
    return torch.from_numpy(tail), torch.from_numpy(lengths)


@compiled_parallel
def encode_rows(  # type: ignore[no-untyped-def]
    kind, noisy, bound, values, residual, seed, uids, ids, counter, codes, left, finite, over, escapes, lengths
):
    """over: how many values were clamped, by block."""
    for block in prange(len(over)):
        beg, end = block * BLOCK, min(block * BLOCK + BLOCK, len(values))
        over[block] = encode_block(
            beg, end, kind, noisy, bound, values, residual, seed, uids, ids, counter,
            codes, left, finite, escapes, lengths,
        )  # fmt: skip


@compiled
def encode_block(  # type: ignore[no-untyped-def]
    beg, end, kind, noisy, bound, values, residual, seed, uids, ids, counter, codes, left, finite, escapes, lengths
):
    dim, over, size = values.shape[1], 0, 1
    while size < dim:
        size *= 2
    x, back, part = np.empty(dim, np.float32), np.empty(dim, np.float32), np.empty(size, np.float32)
    word = np.zeros(dim + dim % 2, np.uint32)
    for u in range(beg, end):
        finite[u] = add_row(kind, values, residual, u, x)
        if not finite[u]:
            x[:] = 0
        if noisy:
            fill_words(seed, np.uint32(uids[u]), ids[u], counter, 0, word[0::2], word[1::2])
        if kind == LOSSLESS_ID:
            over += clamp_row(x, bound, back)
            lengths[u] = put_lossless(back.view(np.uint32).copy(), codes[u], back, escapes[u])
        elif kind <= FP16_ID:
            over += put_float(kind, x, word, noisy, bound, codes[u], back)
        else:
            put_scaled(kind, x, word, noisy, codes[u], back, part)
        if len(left) > 0:
            subtract(x, back, left[u])
    return over


@compiled
def add_row(kind, values, residual, u, x):  # type: ignore[no-untyped-def]
    """x of one row, and whether it is finite. Subnormals stay in fp32 rows without a residual."""
    bits, full = x.view(np.uint32), np.uint32(0)
    x[:] = values[u]
    if len(residual) > 0:
        add_flushed(bits, residual[u].view(np.uint32))
    elif kind != FP32_ID:
        for d in range(len(x)):
            bits[d] = flushed(bits[d])
    for d in range(len(x)):
        full = max(full, np.uint32(bits[d] & EXPONENT))
    return full != EXPONENT


@compiled
def add_flushed(bits, other):  # type: ignore[no-untyped-def]
    for d in range(len(bits)):
        one, two = np.uint32(flushed(bits[d])), np.uint32(flushed(other[d]))
        total = np.float32(one.view(np.float32) + two.view(np.float32))
        bits[d] = flushed(np.uint32(total.view(np.uint32)))


@compiled
def subtract(x, back, left):  # type: ignore[no-untyped-def]
    bits = left.view(np.uint32)
    for d in range(len(x)):
        left[d] = np.float32(x[d] - back[d])
    for d in range(len(x)):
        bits[d] = flushed(bits[d])


@compiled
def clamp_row(x, bound, out):  # type: ignore[no-untyped-def]
    """Clamp x into out; returns how many numbers were past the bound."""
    bits, into, over = x.view(np.uint32), out.view(np.uint32), 0
    for d in range(len(x)):
        over += (bits[d] & SIZE) > bound
        into[d] = clamped(bits[d], bound)
    return over


@compiled
def put_float(kind, x, word, noisy, bound, out, back):  # type: ignore[no-untyped-def]
    """fp32, bf16 and fp16; returns how many values were clamped."""
    bits = back.view(np.uint32)
    over = clamp_row(x, bound, back)
    if kind == FP32_ID:
        out.view(np.uint32)[:] = bits
        return over
    codes = out.view(np.uint16)
    for d in range(len(x)):
        noise = word[d] if noisy else np.uint32(0)
        if kind == BF16_ID:
            code = to_bfloat16(bits[d], noise, noisy)
            codes[d], bits[d] = np.uint16(code), np.uint32(code << SIXTEEN)
        else:
            size = to_small_float(bits[d], noise, noisy, FP16_MANTISSA, FP16_LEAST, FP16_LARGEST)
            codes[d] = np.uint16(size | np.uint32((bits[d] & SIGN) >> SIXTEEN))
            back[d] = from_float16(codes[d])
    return over


@compiled
def from_float16(code):  # type: ignore[no-untyped-def]
    bits = np.uint32(np.uint32(code & FP16_SIZE) << np.uint32(13))
    size = np.float32(np.uint32(bits).view(np.float32) * FP16_SCALE).view(np.uint32)
    if bits >= FP16_FULL:  # inf and NaN, which are never sent
        size = np.uint32(bits & FRACTION) | INFINITE
    return np.uint32(np.uint32(size) | np.uint32(np.uint32(code & FP16_SIGN) << SIXTEEN)).view(np.float32)


@compiled
def put_scaled(kind, x, word, noisy, out, back, part):  # type: ignore[no-untyped-def]
    if kind == INT8_ID:
        put_int8(x, word, noisy, out, back)
    elif kind == INT4_ID:
        put_int4(x, word, noisy, out, back)
    elif kind == FP8_ID:
        put_fp8(x, word, noisy, out, back)
    else:
        put_sign(x, word, noisy, out, back, part)


@compiled_parallel
def decode_rows(kind, codes, tail, ends, out):  # type: ignore[no-untyped-def]
    for block in prange((len(codes) + BLOCK - 1) // BLOCK):
        for u in range(block * BLOCK, min(block * BLOCK + BLOCK, len(codes))):
            get_row(kind, codes[u], tail[ends[u] : ends[u + 1]], out[u])


@compiled
def get_row(kind, row, tail, out):  # type: ignore[no-untyped-def]
    if kind == INT8_ID:
        get_int8(row, out)
    elif kind == INT4_ID:
        get_int4(row, out)
    elif kind == FP8_ID:
        get_fp8(row, out)
    elif kind == SIGN_ID:
        get_sign(row, out)
    elif kind == LOSSLESS_ID:
        get_lossless(row, tail, out)
    else:
        get_float(kind, row, out)


@compiled
def get_float(kind, row, out):  # type: ignore[no-untyped-def]
    bits = out.view(np.uint32)
    if kind == FP32_ID:
        bits[:] = row.view(np.uint32)
    elif kind == BF16_ID:
        codes = row.view(np.uint16)
        for d in range(len(out)):
            bits[d] = np.uint32(np.uint32(codes[d]) << SIXTEEN)
    else:
        codes = row.view(np.uint16)
        for d in range(len(out)):
            out[d] = from_float16(codes[d])


@compiled_parallel
def count_escapes(codes, dim, counts):  # type: ignore[no-untyped-def]
    for u in prange(len(codes)):
        counts[u] = escapes_of(codes[u], dim)


@compiled_parallel
def join_escapes(escapes, ends, tail):  # type: ignore[no-untyped-def]
    for u in prange(len(escapes)):
        for k in range(ends[u + 1] - ends[u]):
            tail[ends[u] + k] = escapes[u, k]
