"""Functions of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


class MapDataset:
    """Each batch through the functions, in order."""

    def __init__(self, input_dataset: Iterable[Any], map_funcs: Sequence[Callable[[Any], Any]] | None) -> None:
        self._input_dataset, self._map_funcs = input_dataset, list(map_funcs or [])

    def __iter__(self) -> Iterator[Any]:
        for batch in self._input_dataset:
            for function in self._map_funcs:
                batch = function(batch)
            yield batch
