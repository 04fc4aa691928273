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


def hash_words(columns: Sequence[Tensor]) -> Tensor:
    """int64 [N]: the hash of the i-th words of columns int64 [N]."""
    state = columns[0].new_empty(0)
    for n, words in enumerate(columns):
        state = _next(state, words, _start(len(columns)), n == len(columns) - 1)
    return state


def cross_words(columns: Sequence[Tensor], offsets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(int64 [N], offsets [B + 1]): in each row the hash of each combination of one word of each column.

    The first column changes slowest.
    """
    state, bounds = _next(columns[0].new_empty(0), columns[0], _start(len(columns)), len(columns) == 1), offsets[0]
    for n in range(1, len(columns)):
        ends = combined_offsets(bounds, offsets[n])
        state = _cross(state, bounds, columns[n], offsets[n], ends, n == len(columns) - 1)
        bounds = ends
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


def _next(state: Tensor, words: Tensor, start: int, last: bool) -> Tensor:
    if not runs_loops(words.device):
        before = torch.full_like(words, signed(start)) if len(state) == 0 else state
        return _with_words(before, words, last)
    from recis_core.backends.feature_loops.combined_words import hash_words  # loads numba

    out = np.empty(len(words), np.uint64)
    hash_words(array(state).view(np.uint64), array(words), np.uint64(start), last, out)
    return torch.from_numpy(out.view(np.int64))


def _cross(state: Tensor, offsets: Tensor, words: Tensor, others: Tensor, ends: Tensor, last: bool) -> Tensor:
    if not runs_loops(words.device):
        left, right = _pairs(offsets, others, ends)
        return _with_words(state[left], words[right], last)
    from recis_core.backends.feature_loops.combined_words import cross_words  # loads numba

    out = np.empty(int(ends[-1]), np.uint64)
    cross_words(array(state).view(np.uint64), *map(array, (offsets, words, others, ends)), last, out)
    return torch.from_numpy(out.view(np.int64))


def _pairs(offsets: Tensor, others: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Indices [N] of the two values of each pair."""
    total = int(ends[-1])
    rows = torch.repeat_interleave(torch.arange(len(ends) - 1, device=ends.device), ends.diff(), output_size=total)
    place = torch.arange(total, device=ends.device) - ends[rows]
    width = others.diff()[rows]
    left = torch.div(place, width, rounding_mode="floor")
    return offsets[rows] + left, others[rows] + place - left * width


def _with_words(state: Tensor, words: Tensor, last: bool) -> Tensor:
    state = (state ^ scrambled(words)) * M
    return finished(state) if last else state
