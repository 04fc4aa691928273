"""Batches the benchmarks share.

Sizes: N ids, B bags, R ids of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Bags:
    """Ids over a vocabulary of R, in B bags.

    index: int64 [N], 0..R−1, what a static table takes. ids: int64 [N], 64-bit, one for each index.
    """

    index: Tensor
    ids: Tensor
    offsets: Tensor
    vocabulary: int


def zipf(rng: np.random.Generator, alpha: float, vocabulary: int, n: int) -> np.ndarray:
    """n ranks below `vocabulary` with P(r) ∝ (r + 1)^−alpha, in random order of popularity."""
    ranks = zipf_ranks(rng, alpha, vocabulary, n)
    return rng.permutation(vocabulary)[ranks]


def zipf_ranks(rng: np.random.Generator, alpha: float, vocabulary: int, n: int) -> np.ndarray:
    """n ranks below `vocabulary`, int64, 0 the most popular."""
    weights = np.arange(1, vocabulary + 1, dtype=np.float64) ** -alpha
    ranks = np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(n))
    return np.minimum(ranks, vocabulary - 1)


def bags(distribution: str, *, n: int = 65_536, b: int = 8_192, vocabulary: int = 1_000_000, seed: int = 0) -> Bags:
    """N ids drawn "zipf" (α 1.05) or "uniform", in B bags of equal length."""
    rng = np.random.default_rng(seed)
    index = zipf(rng, 1.05, vocabulary, n) if distribution == "zipf" else rng.integers(0, vocabulary, n)
    return Bags(torch.from_numpy(index), ids_of(torch.from_numpy(index)), torch.arange(b + 1) * (n // b), vocabulary)


def ids_of(index: Tensor) -> Tensor:
    """A 64-bit id for each index: odd multiplication permutes int64."""
    return index * -7046029254386353131 + 1
