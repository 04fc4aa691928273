"""Ids as differences in frames of 128, each of its own width; backends.interface.Backend.pack_ids has the format.

Sizes: N ids, F frames.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import prange
from torch import Tensor

from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel
from recis_core.backends.packed_ids import (
    BASE_BYTES,
    FRAME,
    HEAD_BYTES,
    LANES,
    WIDTH_BYTES,
    check_ids,
    frames_of,
    sections,
)

ONE, WORD = np.uint64(1), np.uint64(32)


def pack_ids(ids: Tensor) -> Tensor:
    check_ids(ids)
    given, frames = ids.detach().contiguous().numpy(), frames_of(len(ids))
    widths = np.empty(frames, np.uint8)
    measure_frames(given, widths)
    ends = np.cumsum(widths, dtype=np.int64) * LANES
    out = np.empty(HEAD_BYTES * frames + WIDTH_BYTES * int(widths.sum(dtype=np.int64)), np.uint8)
    out[: BASE_BYTES * frames].view(np.int64)[:] = given[::FRAME]
    out[BASE_BYTES * frames : HEAD_BYTES * frames] = widths
    words = np.zeros((len(out) - HEAD_BYTES * frames) // 4, np.uint32)
    pack_frames(given, widths, ends, words)
    out[HEAD_BYTES * frames :] = words.view(np.uint8)
    return torch.from_numpy(out)


def unpack_ids(packed: Tensor, count: int) -> Tensor:
    bases, widths, words = (part.numpy() for part in sections(packed.detach(), count))
    out = np.empty(count, np.int64)
    unpack_frames(bases, widths, np.cumsum(widths, dtype=np.int64) * LANES, words.view(np.uint32), out)
    return torch.from_numpy(out)


@compiled_parallel
def measure_frames(ids, widths):  # type: ignore[no-untyped-def]
    for frame in prange(len(widths)):
        bits = np.uint64(0)
        for i in range(frame * FRAME + 1, min(frame * FRAME + FRAME, len(ids))):
            bits |= np.uint64(ids[i]) - np.uint64(ids[i - 1])
        width = 0
        while bits != 0:
            bits >>= ONE
            width += 1
        widths[frame] = width


@compiled_parallel
def pack_frames(ids, widths, ends, words):  # type: ignore[no-untyped-def]
    """words: zeros."""
    for frame in prange(len(widths)):
        b, beg = np.int64(widths[frame]), frame * FRAME
        start = ends[frame] - b * LANES
        for i in range(1, min(FRAME, len(ids) - beg)):
            difference = np.uint64(ids[beg + i]) - np.uint64(ids[beg + i - 1])
            put_bits(words, start, b, i, difference)


@compiled
def put_bits(words, start, b, i, difference):  # type: ignore[no-untyped-def]
    """Into at most three words of lane i % 4, which begin at bit (i // 4) · b."""
    bit = (i // LANES) * b
    at, offset = start + bit // 32 * LANES + i % LANES, np.uint64(bit % 32)
    low, high = difference & np.uint64(0xFFFFFFFF), difference >> WORD
    last = start + b * LANES
    if at < last:
        words[at] |= np.uint32(low << offset)
    if at + LANES < last:
        words[at + LANES] |= np.uint32((low >> (WORD - offset)) | (high << offset))
    if at + 2 * LANES < last:
        words[at + 2 * LANES] |= np.uint32(high >> (WORD - offset))


@compiled_parallel
def unpack_frames(bases, widths, ends, words, out):  # type: ignore[no-untyped-def]
    for frame in prange(len(widths)):
        b, beg = np.int64(widths[frame]), frame * FRAME
        start, value = ends[frame] - b * LANES, np.uint64(bases[frame])
        for i in range(min(FRAME, len(out) - beg)):
            value += get_bits(words, start, b, i)
            out[beg + i] = np.int64(value)


@compiled
def get_bits(words, start, b, i):  # type: ignore[no-untyped-def]
    bit = (i // LANES) * b
    at, offset, last = start + bit // 32 * LANES + i % LANES, np.uint64(bit % 32), start + b * LANES
    first = np.uint64(words[at]) if at < last else np.uint64(0)
    second = np.uint64(words[at + LANES]) if at + LANES < last else np.uint64(0)
    third = np.uint64(words[at + 2 * LANES]) if at + 2 * LANES < last else np.uint64(0)
    low = (first | (second << WORD)) >> offset
    high = np.uint64(0) if offset == 0 else third << (np.uint64(64) - offset)
    every = np.uint64(0xFFFFFFFFFFFFFFFF)
    ones = every if b == 64 else (ONE << np.uint64(b)) - ONE
    return (low | high) & ones
