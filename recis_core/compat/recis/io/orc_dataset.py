"""ORC files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from recis_core.compat.recis.io.columns import Reading
from recis_core.compat.recis.io.dataset_base import DatasetBase
from recis_core.io.file_dataset import FileDataset
from recis_core.io.file_dataset import OrcDataset as OurOrcDataset


def get_dir_size(dir_name: str) -> int:
    """Bytes of the files in a directory, or of a file."""
    if os.path.isfile(dir_name):
        return os.path.getsize(dir_name)
    return sum(entry.stat().st_size for entry in os.scandir(dir_name) if entry.is_file())


class OrcDataset(DatasetBase):
    """ORC files as (stop, batch); see DatasetBase. All arguments may be positional, in RecIS's order.

    shuffle: permute files, stripes and rows, by seed 0 and the epoch.

    As recis.io.orc_dataset.OrcDataset.
    """

    _files = OurOrcDataset

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
        shuffle: bool = False,
        ragged_format: bool = True,
        transform_fn: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
        save_interval: int | None = 100,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        self._shuffle, self._paths = shuffle, []  # type: tuple[bool, list[str]]
        super().__init__(
            batch_size, worker_idx, worker_num, read_threads_num, pack_threads_num, prefetch, is_compressed, drop_remainder,
            worker_slice_batch_num, ragged_format, transform_fn, save_interval, dtype, device,
        )  # fmt: skip

    def make_dataset_fn(self) -> Callable[..., FileDataset]:
        return lambda *args, **kwargs: self._files(*args, **kwargs, shuffle=self._shuffle)

    def add_path(self, file_path: str) -> None:
        """Add a file, or the files of a folder. Raises FileNotFoundError, and ValueError for a damaged file."""
        self._source.add_path(file_path)
        self._paths.append(file_path)

    def add_paths(self, file_paths: Sequence[str]) -> None:
        for path in file_paths:
            self.add_path(path)

    def varlen_feature(
        self, name: str, hash_type: str | None = None, hash_bucket: int = 0, trans_int8: bool = False
    ) -> None:
        """Read a column as rows of any length.

        Args:
          hash_type: "farm" or "murmur": hash text to int64 ids: their lower 63 bits, or modulo hash_bucket above 0.
          trans_int8: text as int8 bytes with one more level of offsets, for op.Hash.

        Raises:
          ValueError: hash_type is neither.
        """
        self._read(Reading(name, hash_type, hash_bucket, trans_int8))

    def get_dir_size(self) -> list[int]:
        """Bytes of each path that was added."""
        return [get_dir_size(path) for path in self._paths]
