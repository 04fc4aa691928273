"""Sequences in which an item follows from the two before it, but for some noise.

Sizes: B sequences, V items.
"""

from __future__ import annotations

import numpy as np
import torch

from recis_core.ragged import RaggedTensor

V = 5
NOISE = 0.1  # of items are drawn at random; a fifth of those are what would have followed
IDS = torch.tensor([2**40 + 7, -3, 11, 5, 123_456_789])  # of items 0 to V − 1


def sequences(count: int, seed: int) -> RaggedTensor:
    """Item numbers; lengths from 3 to 12."""
    rng = np.random.default_rng(seed)
    follows = np.random.default_rng(5).integers(0, V, (V, V))
    rows = []
    for length in rng.integers(3, 13, count):
        row = list(rng.integers(0, V, 2))
        while len(row) < length:
            row.append(rng.integers(0, V) if rng.random() < NOISE else follows[row[-2], row[-1]])
        rows.append(row)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return RaggedTensor(torch.from_numpy(np.concatenate(rows).astype(np.int64)), torch.from_numpy(offsets))
