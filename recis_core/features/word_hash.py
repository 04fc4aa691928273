"""MurmurHash64A, seed 0, of rows of 64-bit integers, each as 8 little-endian bytes.

Sizes: N words, B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.features.memory import array
from recis_core.hashing.columns import addresses, cut, device_of, runs_loops, starts_of
from recis_core.hashing.murmur import M, finished, scrambled
from recis_core.hashing.unsigned import signed
from recis_core.ragged import uint64_mod


def hash_words(columns: Sequence[Sequence[Tensor]], mods: Sequence[int]) -> list[Tensor]:
    """int64 [N] for each feature: the hash of the i-th words of its columns int64 [N], mod its mod (unsigned) unless that is 0.

    Features of as many columns are one call.
    """
    results: list[Any] = [None] * len(columns)
    for width in dict.fromkeys(map(len, columns)):
        chosen = [n for n, several in enumerate(columns) if len(several) == width]
        found = _hashed([columns[n] for n in chosen], [mods[n] for n in chosen])
        for n, hashes in zip(chosen, found, strict=True):
            results[n] = hashes
    return results


def _hashed(columns: Sequence[Sequence[Tensor]], mods: Sequence[int]) -> list[Tensor]:
    """Features of one width."""
    device = device_of([column for several in columns for column in several], "columns")
    if not runs_loops(device):
        return _hashed_in_torch(columns, mods)
    from recis_core.backends.feature_loops.combined_words import hash_columns  # loads numba

    by_word = [[several[w].contiguous() for several in columns] for w in range(len(columns[0]))]
    starts = starts_of([len(column) for column in by_word[0]])
    out = torch.empty(int(starts[-1]), dtype=torch.int64, device="cpu")
    words = np.stack([addresses(column) for column in by_word])
    hash_columns(words, starts, _start(len(by_word)), np.array(mods, np.uint64), out.numpy())
    return cut(out, by_word[0])


def _hashed_in_torch(columns: Sequence[Sequence[Tensor]], mods: Sequence[int]) -> list[Tensor]:
    width = len(columns[0])
    state = torch.full(
        (sum(len(several[0]) for several in columns),), signed(_start(width)), device=columns[0][0].device
    )
    for w in range(width):
        state = _with_words(state, torch.cat([several[w] for several in columns]), w == width - 1)
    found = cut(state, [several[0] for several in columns])
    return [uint64_mod(hashes, mod) if mod else hashes for hashes, mod in zip(found, mods, strict=True)]


def cross_words(columns: Sequence[Tensor], offsets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(int64 [N], offsets [B + 1]): in each row the hash of each combination of one word of each of two columns or more.

    The first column changes slowest.
    """
    state, bounds = _begun(columns[0], _start(len(columns))), offsets[0]
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


def _begun(words: Tensor, start: int) -> Tensor:
    """The state after the first of several words."""
    if not runs_loops(words.device):
        return _with_words(torch.full_like(words, signed(start)), words, False)
    from recis_core.backends.feature_loops.combined_words import begin_words  # loads numba

    out = np.empty(len(words), np.uint64)
    begin_words(array(words), np.uint64(start), out)
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
