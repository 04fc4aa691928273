"""What an entry of tied rows gives in a ranking: the mean over all orders of its rows (McSherry and Najork 2008, Computing
Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores, ECIR).

An entry begins at place s (rows above it), holds n rows of which r are positive, and m of its places are among the first k.

Sizes: E entries.
"""

from __future__ import annotations

import numpy as np
import torch


def log_factorial(n: np.ndarray) -> np.ndarray:
    found: np.ndarray = torch.lgamma(torch.from_numpy(n + 1.0)).numpy()
    return found


def log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    return log_factorial(n) - log_factorial(k) - log_factorial(n - k)


def discounts(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Σ 1/log2(place + 2) over the places start ≤ place < start + count, [E]."""
    last = int((start + count).max(initial=0))
    sums = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(last) + 2.0))])
    found: np.ndarray = sums[start + count] - sums[start]
    return found


def none_among(n: np.ndarray, r: np.ndarray, m: np.ndarray) -> np.ndarray:
    """The chance that no positive is among m of the n rows: C(n − r, m) / C(n, m), [E]."""
    possible = n - r >= m
    left = np.where(possible, n - r, m)
    return np.where(possible, np.exp(log_choose(left, m) - log_choose(n, m)), 0.0)


def first_reciprocal(s: np.ndarray, n: np.ndarray, r: np.ndarray, k: int | None) -> np.ndarray:
    """The mean of 1/place of the first positive, places from 1; 0 where it lies beyond k: [E]. r > 0 everywhere.

    The first positive is the j-th row with the chance C(n − j, r − 1) / C(n, r), 1 ≤ j ≤ n − r + 1.
    """
    many = (n - r + 1).astype(np.int64)
    many = many if k is None else np.clip(k - s, 0, many)
    entry = np.repeat(np.arange(len(n)), many)
    j = np.arange(len(entry)) - np.repeat(np.cumsum(many) - many, many) + 1
    chance = np.exp(log_choose(n[entry] - j, r[entry] - 1) - log_choose(n, r)[entry])
    return np.bincount(entry, chance / (s[entry] + j), len(n))
