"""Batches that are left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


class FilterDataset:
    """The batches for which no function is true."""

    def __init__(
        self, input_dataset: Iterable[Any], filter_funcs: Sequence[Callable[[Any], Any]] | None = None
    ) -> None:
        self._input_dataset, self._filter_funcs = input_dataset, list(filter_funcs or [])

    def __iter__(self) -> Iterator[Any]:
        for batch in self._input_dataset:
            if not any(function(batch) for function in self._filter_funcs):
                yield batch
