"""The position of a data set, kept in a mapping of the user's."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from torch.utils.data import IterableDataset

__all__ = ["StateDataset"]


class StateDataset(IterableDataset[Any]):
    """Batches of a data set with `state_dict` and `load_state_dict`, whose position goes to state_map[sub_id].

    Args:
      mp_lock: held while state_map is written.
      load_state: where to begin, or None.
      save_interval: batches between two writes; 0 or None writes none.
    """

    def __init__(
        self,
        dataset: Any,
        mp_lock: Any,
        state_map: MutableMapping[int, Any],
        load_state: Any = None,
        save_interval: int | None = 100,
        sub_id: int = 0,
    ) -> None:
        self._dataset, self._lock, self._state_map = dataset, mp_lock, state_map
        self._load_state, self._save_interval, self._sub_id = load_state, save_interval, sub_id
        self._running = False

    def dump_io_state(self) -> MutableMapping[int, Any]:
        """Raises RuntimeError: no batch was read."""
        if not self._running:
            raise RuntimeError("there is no position before the first batch.")
        return self._state_map

    def __iter__(self) -> Iterator[Any]:
        if self._load_state is not None:
            self._dataset.load_state_dict(self._load_state)
        self._running = True
        self._write()
        for number, batch in enumerate(self._dataset, 1):
            if self._save_interval and number % self._save_interval == 0:
                self._write()
            yield batch

    def _write(self) -> None:
        if self._save_interval:
            with self._lock:
                self._state_map[self._sub_id] = self._dataset.state_dict()
