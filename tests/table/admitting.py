"""A table that admits, and what a dict makes of the same batches.

Sizes: B rows of a batch, D dim.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from recis_core.backends.initial_values import Distribution, initial_values
from recis_core.nn import EmbeddingEngine, EmbeddingOption, UniformInitializer
from recis_core.ragged import RaggedTensor
from recis_core.table.uid import distinct_uids

D = 4
BOUND = 0.5


def engine_of(names: str | list[str] = "f", **options: Any) -> EmbeddingEngine:
    """One feature a name, with a table of its own; all on the CPU."""
    option = EmbeddingOption(D, device="cpu", initializer=UniformInitializer(-BOUND, BOUND), block_size=64, **options)
    return EmbeddingEngine(dict.fromkeys([names] if isinstance(names, str) else names, option))


def initial(name: str, ids: list[int]) -> np.ndarray:
    """What rows of a table of that name begin as, float32 [n, D]."""
    uids = np.array(distinct_uids([name]) * len(ids), np.uint32)
    return initial_values(Distribution("uniform", -BOUND, BOUND), 0, uids, np.array(ids, np.int64), D)


def bags(*rows: list[int]) -> RaggedTensor:
    """One bag a list."""
    values = torch.tensor([i for row in rows for i in row], dtype=torch.int64)
    return RaggedTensor(values, torch.tensor([0, *np.cumsum([len(row) for row in rows])]))


class DictOfFrequencies:
    """Who has a row, by a dict."""

    def __init__(self, threshold: int) -> None:
        self.threshold, self.seen, self.admitted = threshold, Counter[int](), set[int]()

    def see(self, ids: list[int]) -> None:
        for i, count in Counter(ids).items():
            if i not in self.admitted:
                self.seen[i] += count
                if self.seen[i] >= self.threshold:
                    self.admitted.add(i)
                    del self.seen[i]
