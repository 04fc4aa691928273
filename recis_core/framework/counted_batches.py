"""A position in batches that have none of their own: how many were taken in this pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any


class CountedBatches:
    """Iterates over batches that come in the same order each time; a loaded position skips those that were taken.

    batches: a list, a DataLoader without shuffle, or anything else to iterate over again; or an iterator, for one pass.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches
        self._taken = self._skip = 0

    @property
    def one_pass(self) -> bool:
        """Whether the batches are an iterator, which gives each of them once."""
        return isinstance(self._batches, Iterator)

    def __iter__(self) -> Iterator[Any]:
        skip, self._skip = self._skip, 0
        self._taken = skip
        source = iter(self._batches)
        if skip:
            for _ in islice(source, skip):
                pass  # what was trained before
        for batch in source:
            self._taken += 1
            yield batch
        self._taken = 0

    def go_on(self) -> None:
        """Let the next pass begin where the last one was left. An iterator does so by itself."""
        self._skip = 0 if self.one_pass else self._taken

    def state_dict(self) -> dict[str, int]:
        return {"batches": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError unless it is a count of batches, of one rank."""
        if not isinstance(state, Mapping):
            raise ValueError(
                "batches that are counted go on at the number of ranks with which they began; to share them out among others, "
                "read a data set that keeps its position, as those of recis_core.io."
            )
        taken = state.get("batches")
        if type(taken) is not int or taken < 0:
            raise ValueError(f"a position in plain batches is a count; got {state!r}.")
        self._taken = self._skip = taken


def with_position(data: Any) -> Any:
    """The data, if it keeps its position; else CountedBatches of it."""
    if hasattr(data, "state_dict") and hasattr(data, "load_state_dict"):
        return data
    return CountedBatches(data)
