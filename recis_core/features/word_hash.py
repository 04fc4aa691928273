"""MurmurHash64A, seed 0, of rows of 64-bit integers, each as 8 little-endian bytes.

Sizes: N words, B rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recis_core.features.memory import array
from recis_core.hashing.columns import runs_loops
from recis_core.hashing.murmur import M, finished, scrambled
from recis_core.hashing.unsigned import signed
from recis_core.ragged import uint64_mod


def hash_words(columns: Sequence[Tensor], buckets: int = 0) -> Tensor:
    """int64, shape of the columns: the hash of their i-th words, int64, mod buckets (unsigned) unless those are 0."""
    state = columns[0].new_empty(0)
    for n, column in enumerate(columns):
        last = n == len(columns) - 1
        state = _next(state, column.reshape(-1), _start(len(columns)), last, buckets)
    return state.reshape(columns[0].shape)


def cross_words(columns: Sequence[Tensor], offsets: Sequence[Tensor], buckets: int = 0) -> tuple[Tensor, Tensor]:
    """(int64 [N], offsets [B + 1]): in each row the hash of each combination of one word of each column.

    The first column changes slowest.
    """
    start = _start(len(columns))
    state, bounds = _next(columns[0].new_empty(0), columns[0], start, len(columns) == 1, buckets), offsets[0]
    for n in range(1, len(columns)):
        ends = combined_offsets(bounds, offsets[n])
        last = n == len(columns) - 1
        state, bounds = _cross(state, bounds, columns[n], offsets[n], ends, last, buckets), ends
    return state, bounds


def cross_weights(weights: Sequence[Tensor], offsets: Sequence[Tensor]) -> Tensor:
    """float32 [N]: the product of the weights of each combination, in the order of `cross_words`."""
    product, bounds = weights[0], offsets[0]
    for n in range(1, len(weights)):
        ends = combined_offsets(bounds, offsets[n])
        left, right = _pairs(bounds, offsets[n], ends)
        product, bounds = product[left] * weights[n][right], ends
    return product


def combined_offsets(offsets: Tensor, others: Tensor) -> Tensor:
    """Offsets of rows that hold each value of one row with each of the other."""
    counts = offsets.diff() * others.diff()
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _start(words: int) -> int:
    """The hash's state before the first of so many words, unsigned."""
    return 8 * words * M % (1 << 64)


def _next(state: Tensor, words: Tensor, start: int, last: bool, buckets: int) -> Tensor:
    if not runs_loops(words.device):
        before = torch.full_like(words, signed(start)) if len(state) == 0 else state
        return _with_words(before, words, last, buckets)
    from recis_core.backends.feature_loops.combined_words import hash_words  # loads numba

    out = np.empty(len(words), np.uint64)
    hash_words(array(state).view(np.uint64), array(words), np.uint64(start), last, np.uint64(buckets), out)
    return torch.from_numpy(out.view(np.int64))


def _cross(
    state: Tensor, offsets: Tensor, words: Tensor, others: Tensor, ends: Tensor, last: bool, buckets: int
) -> Tensor:
    if not runs_loops(words.device):
        left, right = _pairs(offsets, others, ends)
        return _with_words(state[left], words[right], last, buckets)
    from recis_core.backends.feature_loops.combined_words import cross_words  # loads numba

    out = np.empty(int(ends[-1]), np.uint64)
    rows = [array(offsets), array(words), array(others), array(ends)]
    cross_words(array(state).view(np.uint64), *rows, last, np.uint64(buckets), out)
    return torch.from_numpy(out.view(np.int64))


def _pairs(offsets: Tensor, others: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Indices [N] of the two values of each pair."""
    total = int(ends[-1])
    rows = torch.repeat_interleave(torch.arange(len(ends) - 1, device=ends.device), ends.diff(), output_size=total)
    place = torch.arange(total, device=ends.device) - ends[rows]
    width = others.diff()[rows]
    left = torch.div(place, width, rounding_mode="floor")
    return offsets[rows] + left, others[rows] + place - left * width


def _with_words(state: Tensor, words: Tensor, last: bool, buckets: int) -> Tensor:
    state = (state ^ scrambled(words)) * M
    if not last:
        return state
    state = finished(state)
    return uint64_mod(state, buckets) if buckets else state
