"""Rows by id, spread over partitions that fit into memory one by one; what memory does not hold lies in unnamed files.

Sizes: N rows of a block, W numbers of a row, P partitions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from typing import IO, Any

import torch
from torch import Tensor

MOST = 256  # partitions: each is an open file


class RowPartitions:
    """Rows [N, W] with ids, in P partitions by id. Call close at the end.

    Args:
      partitions: P. width: W. dtype: of rows. memory: bytes that are held before rows go to files, of all partitions.
      directory: of the files; None: that of temporary files.
    """

    def __init__(
        self, partitions: int, width: int, dtype: torch.dtype, memory: int, directory: str | None = None
    ) -> None:
        self.width, self.dtype = width, dtype
        each = max(1, memory // partitions)
        self._ends = ExitStack()
        self._files: list[IO[Any]] = [self._file(each, directory) for _ in range(partitions)]

    def _file(self, size: int, directory: str | None) -> IO[Any]:
        return self._ends.enter_context(tempfile.SpooledTemporaryFile(max_size=size, dir=directory))

    def add(self, ids: Tensor, rows: Tensor) -> None:
        """ids: int64 [N]. rows: [N, W]."""
        records = torch.cat([_bytes(ids[:, None]), _bytes(rows.to(self.dtype))], 1)
        owner = (ids * -7046029254386353131 >> 40) % len(self._files)
        order = owner.argsort(stable=True)
        counts = torch.bincount(owner, minlength=len(self._files)).tolist()
        for file, part in zip(self._files, records[order].split(counts), strict=True):
            if len(part):
                file.write(part.numpy())

    def take(self, partition: int) -> tuple[Tensor, Tensor]:
        """(ids int64 [n], ascending; rows [n, W]) of one partition, which is empty afterwards."""
        file = self._files[partition]
        file.seek(0)
        data = bytearray(file.read())
        file.close()
        records = torch.frombuffer(data, dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)
        records = records.reshape(-1, 8 + self.width * self.dtype.itemsize)
        ids, order = records[:, :8].contiguous().view(torch.int64).flatten().sort()
        return ids, records[:, 8:][order].reshape(-1).view(self.dtype).reshape(len(ids), self.width)

    def close(self) -> None:
        self._ends.close()

    def __len__(self) -> int:
        return len(self._files)


def partitions_for(bytes_of_rows: Iterable[int], memory: int) -> int:
    """How many partitions there must be, so that one of each side takes about `memory` bytes at most."""
    return min(MOST, max(1, -(-2 * max(bytes_of_rows) // memory)))


def _bytes(values: Tensor) -> Tensor:
    """uint8 [N, bytes of a row]"""
    flat = values.contiguous()
    return (
        flat.view(torch.uint8).reshape(len(flat), -1) if flat.numel() else torch.zeros(len(flat), 0, dtype=torch.uint8)
    )
