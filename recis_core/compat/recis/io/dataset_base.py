"""The base of RecIS's datasets: (stop, batch) from files, for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from recis_core.backends.errors import RecisError
from recis_core.compat.recis.io.columns import Reading, fixed
from recis_core.compat.recis.io.filter_dataset import FilterDataset
from recis_core.compat.recis.io.map_dataset import MapDataset
from recis_core.compat.recis.io.wrap_end_dataset import WrapEndDataset
from recis_core.io.file_dataset import FileDataset
from recis_core.io.selection import to_device


def is_string_dtype(arr: np.ndarray) -> bool:
    """Whether an array holds text."""
    return arr.dtype.kind in "USO"


class DatasetBase(IterableDataset[Any]):
    """Iteration gives (False, [batch]) for each batch, then (True, None) for ever; each `iter` is one epoch.

    Functions of transform_fn and map get a list of one batch, {column: RaggedTensor or Tensor}, and may give anything.

    Args:
      batch_size, worker_idx, worker_num, read_threads_num, prefetch, drop_remainder: as in recis_core.io.Dataset.
      pack_threads_num, worker_slice_batch_num: taken, without effect.
      is_compressed: only False.
      ragged_format: False gives torch.sparse_coo tensors of variable-length columns.
      save_interval: 0 or None gives no position; any other number gives the exact one at each dump_io_state.
      dtype: of floats.
      device: "cpu", "pin" or "cuda".

    Raises:
      ValueError: is_compressed is True, or the device is none of these.
    """

    _files: type[FileDataset]

    def __init__(
        self,
        batch_size: int,
        worker_idx: int = 0,
        worker_num: int = 1,
        read_threads_num: int = 4,
        pack_threads_num: int | None = None,
        prefetch: int = 1,
        is_compressed: bool = False,
        drop_remainder: bool = False,
        worker_slice_batch_num: int | None = None,
        ragged_format: bool = True,
        transform_fn: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
        save_interval: int | None = 100,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        if is_compressed:
            raise ValueError("is_compressed=True reads a format of Alibaba's; ORC files compress themselves.")
        if device not in ("cpu", "cuda", "pin"):
            raise ValueError(f"device must be cpu, cuda or pin; got {device!r}.")
        self._worker_idx, self._worker_num, self._save_interval = worker_idx, worker_num, save_interval
        self._ragged_format, self._device = ragged_format, device
        given = [] if transform_fn is None else [transform_fn] if callable(transform_fn) else list(transform_fn)
        self._transform_fn: list[Callable[[Any], Any]] = given
        self._map_funcs: list[Callable[[Any], Any]] = []
        self._filter_funcs: list[Callable[[Any], Any]] = []
        self._readings: dict[str, Reading | None] = {}  # None: of fixed length
        self._source = self.make_dataset_fn()(
            batch_size, worker_idx, worker_num, read_threads_num=read_threads_num, prefetch=prefetch or 0,
            drop_remainder=drop_remainder, dtype=dtype,
        )  # fmt: skip

    def make_dataset_fn(self) -> Callable[..., FileDataset]:
        """Makes the data set of ours that reads the files."""
        return self._files

    def varlen_feature(self, name: str) -> None:
        """Read a column as rows of any length."""
        self._read(Reading(name))

    def fixedlen_feature(self, name: str, default_value: Sequence[float]) -> None:
        """Read a column as a tensor [B, len(default_value)]; an empty row gets the default."""
        if name not in self._readings:
            self._source.fixedlen_feature(name, default_value)
            self._readings[name] = None

    def _read(self, reading: Reading) -> None:
        if reading.name not in self._readings:
            self._source.varlen_feature(reading.name)
            self._readings[reading.name] = reading

    def map(self, map_func: Callable[[Any], Any]) -> None:
        """Apply a function to each list of batches, before transform_fn."""
        self._map_funcs.append(map_func)

    def filter(self, filter_func: Callable[[Any], Any]) -> None:
        """Leave out what the function is true for, before `map`; RecIS 1.0 takes it and leaves nothing out."""
        self._filter_funcs.append(filter_func)

    def dump_io_state(self) -> dict[int, Any] | None:
        """{0: this worker's position}, plain values; None without save_interval.

        Raises:
          RecisError: a DataLoader's workers read, whose positions are not known here.
        """
        if not self._save_interval:
            return None
        try:
            return {0: self._source.state_dict()}
        except ValueError as error:
            raise RecisError(f"{error} recis_core.io and a StatefulDataLoader do it.") from error

    def load_io_state(self, io_states: dict[int, Any] | None) -> None:
        """Let the next `iter` begin where a dump was made.

        Raises:
          ValueError: it is of several sub-workers, or of other data.
        """
        if not io_states:
            return
        if set(io_states) != {0}:
            raise ValueError(f"io_states must be of one sub-worker, 0; got {sorted(io_states)}.")
        self._source.load_state_dict(io_states[0])

    def __iter__(self) -> Iterator[Any]:
        kept = FilterDataset(self._batches(), self._filter_funcs)
        made: Iterable[Any] = MapDataset(kept, [*self._map_funcs, *self._transform_fn])
        device = "cpu" if get_worker_info() is not None else self._device
        return iter(WrapEndDataset(to_device(batch, device) for batch in made))

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        for batch in self._source:
            yield [{name: self._converted(reading, batch[name]) for name, reading in self._readings.items()}]

    def _converted(self, reading: Reading | None, column: Any) -> Any:
        return fixed(column) if reading is None else reading.convert(column, self._ragged_format)
