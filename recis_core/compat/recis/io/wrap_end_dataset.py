"""Batches with a flag of the end, and no end of the iteration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import IterableDataset

__all__ = ["WrapEndDataset"]


class WrapEndDataset(IterableDataset[Any]):
    """(False, batch) for each batch, then (True, None) for ever."""

    def __init__(self, dataset: Iterable[Any]) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[tuple[bool, Any]]:
        for batch in self._dataset:
            yield False, batch
        while True:
            yield True, None
