"""Reads tensors, or some of their rows, from a directory of torch.distributed.checkpoint, without the model that saved it.

reader.tensors["model.a.weight"].size        of all tensors, whatever ranks, shardings and classes saved them
reader.read_rows("model.a.weight", 100, 200)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader, LoadPlan, LoadPlanner
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadItemType, ReadItem

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize.imports.dcp_metadata import METADATA, read_metadata


class DcpReader:
    """A directory that dcp.save wrote.

    tensors: {key: TensorStorageMetadata}; keys of nested dicts are joined by dots.

    Raises:
      as read_metadata.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        metadata = read_metadata(path)
        self.tensors: dict[str, TensorStorageMetadata] = {
            key: saved
            for key, saved in metadata.state_dict_metadata.items()
            if isinstance(saved, TensorStorageMetadata)
        }
        self._reader = FileSystemReader(path)
        self._reader.set_up_storage_reader(metadata, is_coordinator=True)

    def row_bounds(self, keys: Iterable[str]) -> list[int]:
        """Where slices of any of these tensors begin along their rows, ascending, and the end."""
        chunks = [chunk for key in keys for chunk in self.tensors[key].chunks]
        edges = {edge for chunk in chunks for edge in (chunk.offsets[0], chunk.offsets[0] + chunk.sizes[0])}
        return sorted(edges)

    def read(self, key: str) -> Tensor:
        """A whole tensor. Raises CorruptCheckpoint."""
        return self._filled(key, (0,) * len(self.tensors[key].size), tuple(self.tensors[key].size))

    def read_rows(self, key: str, begin: int, end: int) -> Tensor:
        """Rows [begin, end) of a tensor; reads the whole slices in which they lie. Raises CorruptCheckpoint."""
        shape = tuple(self.tensors[key].size)
        return self._filled(key, (begin, *(0 for _ in shape[1:])), (end - begin, *shape[1:]))

    def _filled(self, key: str, offsets: tuple[int, ...], sizes: tuple[int, ...]) -> Tensor:
        out = torch.empty(sizes, dtype=self.tensors[key].properties.dtype)
        items = [
            item for chunk in self.tensors[key].chunks if (item := _overlap(key, chunk, offsets, sizes)) is not None
        ]
        if sum(item.lengths.numel() for item in items) != out.numel():
            raise CorruptCheckpoint(f"{self.path / METADATA} does not say where all of {key!r} lies.")
        try:
            self._reader.read_data(LoadPlan(items), _Into(out)).wait()
        except Exception as error:  # a cut zip, a missing file, a pickle: torch raises many kinds
            raise CorruptCheckpoint(f"{self.path}: {key!r} cannot be read: {str(error)[:300]}") from error
        return out


def _overlap(key: str, chunk: Any, offsets: tuple[int, ...], sizes: tuple[int, ...]) -> ReadItem | None:
    """What to read of a slice to fill a box of the tensor; None where they do not meet."""
    begin = [max(a, b) for a, b in zip(chunk.offsets, offsets, strict=True)]
    end = [min(a + n, b + m) for a, n, b, m in zip(chunk.offsets, chunk.sizes, offsets, sizes, strict=True)]
    if any(b >= e for b, e in zip(begin, end, strict=True)):
        return None
    return ReadItem(
        type=LoadItemType.TENSOR,
        dest_index=MetadataIndex(key),
        dest_offsets=torch.Size([b - a for a, b in zip(offsets, begin, strict=True)]),
        storage_index=MetadataIndex(key, chunk.offsets),
        storage_offsets=torch.Size([b - a for a, b in zip(chunk.offsets, begin, strict=True)]),
        lengths=torch.Size([e - b for b, e in zip(begin, end, strict=True)]),
    )


class _Into(LoadPlanner):
    """Puts what is read into its place of one tensor."""

    def __init__(self, out: Tensor) -> None:
        self.out = out

    def resolve_tensor(self, read_item: ReadItem) -> Tensor:
        place = tuple(slice(o, o + n) for o, n in zip(read_item.dest_offsets, read_item.lengths, strict=True))
        return self.out[place]

    def commit_tensor(self, read_item: ReadItem, tensor: Tensor) -> None:
        """It is there already."""

    def set_up_planner(self, *args: Any, **kwargs: Any) -> None: ...

    def create_local_plan(self) -> LoadPlan:
        return LoadPlan([])

    def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
        return global_plan

    def finish_plan(self, central_plan: LoadPlan) -> LoadPlan:
        return central_plan

    def load_bytes(self, read_item: ReadItem, value: Any) -> None:
        raise CorruptCheckpoint(f"{read_item.storage_index.fqn!r} is no tensor.")
