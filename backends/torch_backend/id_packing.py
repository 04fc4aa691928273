"""Ids as differences in frames of 128, each of its own width; backends.interface.Backend.pack_ids has the format.

A difference of b bits reaches into at most three words of its lane.

Sizes: N ids, F frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.packed_ids import FRAME, LANES, check_ids, frames_of, joined, sections
from recis_core.backends.torch_backend.hashing import MASK


def pack_ids(ids: Tensor) -> Tensor:
    check_ids(ids)
    frames = torch.zeros(frames_of(len(ids)), FRAME, dtype=torch.int64, device=ids.device)
    frames.view(-1)[: len(ids)] = ids
    differences = torch.zeros_like(frames)
    differences[:, 1:] = frames[:, 1:] - frames[:, :-1]
    differences.view(-1)[len(ids) :] = 0
    widths = _bit_length(differences).amax(1) if len(frames) else frames.new_zeros(0)
    return joined(frames[:, 0], widths.to(torch.uint8), _words(differences, widths))


def unpack_ids(packed: Tensor, count: int) -> Tensor:
    bases, widths, words = sections(packed, count)
    b = widths.long()[:, None]
    word, offset, inside = _places(b)
    padded = torch.cat([words.long() & MASK, words.new_zeros(1, dtype=torch.int64)])
    first, second, third = (padded[torch.where(inside(q), word + LANES * q, len(words))] for q in range(3))
    low = ((first >> offset) | (second << (32 - offset))) & MASK & _ones(b.clamp(max=32))
    high = ((second >> offset) | (third << (32 - offset))) & MASK & _ones((b - 32).clamp(min=0))
    return (bases[:, None] + (low | (high << 32)).cumsum(1)).reshape(-1)[:count]


def _words(differences: Tensor, widths: Tensor) -> Tensor:
    """int32 bits. Differences share no bit of a word, so that a sum of their parts is the word."""
    b = widths[:, None]
    word, offset, inside = _places(b)
    low, high = differences & MASK, (differences >> 32) & MASK
    parts = (low << offset) & MASK, ((low >> (32 - offset)) | (high << offset)) & MASK, high >> (32 - offset)
    words = torch.zeros(int(widths.sum()) * LANES + 1, dtype=torch.int64, device=widths.device)
    for q, part in enumerate(parts):
        at = torch.where(inside(q), word + LANES * q, len(words) - 1)
        words.index_add_(0, at.reshape(-1), torch.where(inside(q), part, 0).reshape(-1))
    return words[:-1].to(torch.int32)


def _places(b: Tensor):  # type: ignore[no-untyped-def]
    """Of each difference [F, 128]: its first word, its bit there, and whether the q-th word from there is its lane's."""
    at = torch.arange(FRAME, device=b.device)
    ends = (b * LANES).cumsum(0)
    bit = (at // LANES) * b
    return ends - b * LANES + bit // 32 * LANES + at % LANES, bit % 32, lambda q: bit // 32 + q < b


def _bit_length(x: Tensor) -> Tensor:
    """Of int64 as unsigned; a float64 holds each half exactly."""
    high, low = (x >> 32) & MASK, x & MASK
    length = torch.frexp(torch.where(high != 0, high, low).double())[1].long()
    return length + 32 * (high != 0)


def _ones(count: Tensor) -> Tensor:
    return (torch.ones_like(count) << count) - 1
