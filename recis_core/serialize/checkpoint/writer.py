"""Writes a checkpoint without a model: for resharding, compacting and importing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from recis_core.serialize.checkpoint.environment import environment_here
from recis_core.serialize.checkpoint.rank_files import RankFiles, RankLayout
from recis_core.serialize.checkpoint.table_files import FILE_BYTES, TableFiles, check_block
from recis_core.serialize.manifest import Head, checked_step
from recis_core.serialize.part_file import NAMES
from recis_core.serialize.part_writers import PartWriters
from recis_core.serialize.places import written_aside
from recis_core.serialize.saved_state import split_parts
from recis_core.serialize.store_path import place_of
from recis_core.serialize.table_block import TableBlock
from recis_core.serialize.table_entry import TableEntry


class CheckpointWriter:
    """Made by new_checkpoint. Each table and part is written once, as it is given."""

    def __init__(self, parts: PartWriters, file_bytes: int) -> None:
        self._parts, self._file_bytes = parts, file_bytes
        self._tables: dict[str, TableEntry] = {}

    def table(
        self,
        name: str,
        blocks: Iterable[TableBlock],
        *,
        dim: int,
        dtype: torch.dtype = torch.float32,
        layout: RankLayout | None = None,
    ) -> int:
        """Write all rows of a table; one file's rows are in memory at a time. Returns how many.

        Args:
          blocks: of rows [n, dim] in `dtype`, all with the same slots and marks. No id may come twice, in other blocks too:
            that is checked within a block alone.
          layout: files as so many ranks would write them, of each of which one file's rows are in memory; None: as one
            process does. Any ranks read either.

        Raises:
          ValueError, TypeError: the name was given before, a block has another form, or rows cannot be laid out so.
        """
        if not isinstance(name, str) or name in self._tables:
            raise ValueError(f"a table's name is a string, and each is written once; got {name!r:.200}.")
        if type(dim) is not int or dim < 1 or dtype not in NAMES:
            raise ValueError(
                f"table {name!r} wants a positive dim and a dtype that safetensors has; got {dim}, {dtype}."
            )
        files, rows = self._files(name, dim, dtype, layout), 0
        for block in blocks:
            check_block(block, name, dim, dtype)
            files.add(block)
            rows += len(block.ids)
        files.end()
        self._tables[name] = files.entry()
        return rows

    def _files(self, name: str, dim: int, dtype: torch.dtype, layout: RankLayout | None) -> TableFiles | RankFiles:
        here = (self._parts, name, dim, dtype)
        if layout is None:
            return TableFiles(*here, file_bytes=self._file_bytes)
        return RankFiles(*here, layout, self._file_bytes)

    def part(self, name: str, value: Any) -> None:
        """Write a part: nested dicts, lists, tuples, scalars and tensors.

        Raises:
          ValueError, TypeError: the name was given before or cannot name a file, or the value has no safe form.
        """
        if name in self._parts.written or str(name).startswith("table."):
            raise ValueError(f"part {name!r} is written already, or has the name of a table's file.")
        for part, (tree, tensors) in split_parts({name: value}).items():
            self._parts.write(part, tree, tensors)

    def _head(self, environment: Mapping[str, Any]) -> Head:
        return Head(environment=environment, tables=self._tables)


@contextmanager
def new_checkpoint(
    directory: str | os.PathLike[str],
    step: int,
    *,
    environment: Mapping[str, Any] | None = None,
    file_bytes: int = FILE_BYTES,
) -> Iterator[CheckpointWriter]:
    """A full checkpoint of a step, DIR/step-…, in a directory of this machine or at a URL.

    It appears, whole, when the block ends, in place of a former one of that step; if the block raises, nothing changes.

    Args:
      environment: JSON values that say what made it; None: this process's. file_bytes: of a table's file at most.

    Raises:
      StorageInUse: another process is saving there. OSError: the system's error.
    """
    checked_step(step)
    with written_aside(place_of(directory), step) as aside:
        with PartWriters(aside.files) as parts:
            writer = CheckpointWriter(parts, file_bytes)
            yield writer
        aside.commit(step, parts.written, writer._head(environment_here() if environment is None else environment))
