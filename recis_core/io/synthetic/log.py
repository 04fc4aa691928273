"""What all synthetic logs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from recis_core.io.synthetic.dataset import SyntheticDataset
from recis_core.ragged import RaggedTensor


class SyntheticLog(ABC):
    """Samples without end, each a function of (log, seed, its number) alone.

    name, seed: what a saved reader compares. rows: default number of samples of `dataset`.
    """

    name: str
    seed: int
    rows: int

    @abstractmethod
    def batch(self, start: int, n: int) -> dict[str, Tensor | RaggedTensor]:
        """Samples start .. start + n."""

    def dataset(self, batch_size: int, start: int = 0, stop: int | None = None, **options: Any) -> SyntheticDataset:
        """An iterable of batches of samples start .. stop (None: start + rows); see SyntheticDataset."""
        end = start + self.rows if stop is None else stop
        return SyntheticDataset(self, batch_size, start, end, **options)


def check_range(start: int, n: int) -> None:
    """Raises ValueError unless there are such samples."""
    if start < 0 or n < 0:
        raise ValueError(f"start and n must be >= 0; got {start} and {n}.")
