"""Reads the tensors of a RecIS v1 checkpoint by name; safetensors files are opened without RecIS.

DIR/index                                  JSON, the mark of a whole checkpoint: which key is in which file
    model-000000-of-000004.safetensors     blocks of tables, and plain tensors; see recis_keys.py
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize.imports.recis_keys import PLAIN, BlockKey, block_key
from recis_core.serialize.part_file import DTYPES, opened
from recis_core.urls import local_path

INDEX, NEWEST = "index", "checkpoint"
FILE = re.compile(r"model-\d{6}-of-\d{6}\.safetensors")
LIMIT = 1 << 28  # bytes of an index


class RecisCheckpoint:
    """A RecIS v1 checkpoint: a directory with an index, or the newest of an output directory.

    Tensors have the names of RecIS's own reader: "item@embedding" is a table's slot, with the rows of all shards; a plain
    tensor's name is its own.

    Raises:
      FileNotFoundError: there is no checkpoint.
      CorruptCheckpoint: the checkpoint was not written to its end, or a file that it names is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _checkpoint_of(local_path(path, "a checkpoint of RecIS's form"))
        self._files = _read_index(self.path)
        self._blocks: dict[str, list[BlockKey]] = {}
        for key in map(block_key, self._files):
            if key is not None:
                self._blocks.setdefault(key.tensor_name, []).append(key)
        for blocks in self._blocks.values():
            blocks.sort(key=lambda block: block.part)
            self._require_all_parts(blocks)

    def _require_all_parts(self, blocks: list[BlockKey]) -> None:
        parts = blocks[0].parts
        if [(block.part, block.parts) for block in blocks] != [(part, parts) for part in range(parts)]:
            raise CorruptCheckpoint(
                f"{self.path / INDEX} does not name all parts of {blocks[0].tensor_name}; it has "
                f"{', '.join(str(block) for block in blocks[:5])}."
            )

    def tensor_names(self) -> list[str]:
        """Names of tables' slots as "table@slot", and of plain tensors; sorted."""
        return sorted([*self._blocks, *self._plain()])

    def _plain(self) -> dict[str, str]:
        """{name: key}"""
        return {key.removesuffix(PLAIN): key for key in self._files if key.endswith(PLAIN)}

    def table_slots(self) -> dict[str, dict[str, list[BlockKey]]]:
        """{table: {slot: its blocks, by part}}"""
        tables: dict[str, dict[str, list[BlockKey]]] = {}
        for blocks in self._blocks.values():
            tables.setdefault(blocks[0].table, {})[blocks[0].slot] = blocks
        return tables

    def read_tensor(self, name: str) -> Tensor:
        """The whole tensor, on the CPU; of a table's slot the rows of all shards, in their order.

        Raises:
          KeyError: there is no such tensor. CorruptCheckpoint: its file is missing or damaged.
        """
        parts = []
        for key in self._keys(name):
            with self.slice_of(key) as part:
                parts.append(part[...])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def tensor_shape(self, name: str) -> list[int]:
        """The shape that read_tensor's result has, from the headers alone. Raises as read_tensor."""
        shapes = [self._form(key)[1] for key in self._keys(name)]
        first = shapes[0]
        return [sum(shape[0] for shape in shapes), *first[1:]] if len(shapes) > 1 else first

    def tensor_dtype(self, name: str) -> torch.dtype:
        """From the header alone. Raises as read_tensor."""
        return self._form(self._keys(name)[0])[0]

    def form_of(self, key: BlockKey) -> tuple[torch.dtype, list[int]]:
        """(dtype, shape) of one block."""
        return self._form(str(key))

    def _form(self, key: str) -> tuple[torch.dtype, list[int]]:
        with self.slice_of(key) as part:
            kind, shape = part.get_dtype(), list(part.get_shape())
        if kind not in DTYPES:
            raise CorruptCheckpoint(f"{self.file_of(key)}: {key!r} is of {kind}, which has no dtype here.")
        return DTYPES[kind], shape

    def _keys(self, name: str) -> list[str]:
        if name in self._blocks:
            return [str(block) for block in self._blocks[name]]
        plain = self._plain()
        if name not in plain:
            raise KeyError(f"{self.path} has no tensor {name!r}; it has {', '.join(self.tensor_names()[:8])}.")
        return [plain[name]]

    def file_of(self, key: str | BlockKey) -> Path:
        return self.path / self._files[str(key)]

    @contextmanager
    def slice_of(self, key: str | BlockKey) -> Iterator[Any]:
        """A block of a file, of which any rows can be read: part[begin:end]."""
        path = self.file_of(key)
        with opened(path):  # a regular file, no link out of the directory
            pass
        try:
            with safe_open(path, "pt") as file:
                yield file.get_slice(str(key))
        except SafetensorError as error:
            raise CorruptCheckpoint(f"{path} cannot be read: {error}. Its index names {str(key)!r} there.") from error


def _checkpoint_of(path: Path) -> Path:
    """The directory itself, or the one that the last line of an output directory's `checkpoint` names."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no directory; a RecIS checkpoint is one with an {INDEX!r}.")
    newest = path / NEWEST
    if os.path.lexists(path / INDEX) or not os.path.lexists(newest):
        return path
    with opened(newest) as file:
        lines = file.read(LIMIT).decode(errors="replace").split()
    if not lines or Path(lines[-1]).name != lines[-1] or lines[-1] == "..":
        raise CorruptCheckpoint(
            f"{newest} must end with the name of a checkpoint beside it; got {str(lines[-1:])[:80]}."
        )
    return path / lines[-1]


def _read_index(path: Path) -> dict[str, str]:
    """{key: name of its file}"""
    where = path / INDEX
    if not os.path.lexists(where):
        raise CorruptCheckpoint(
            f"{path} has no {INDEX!r}: it holds no RecIS checkpoint, or one that was not written to its end. Name another."
        )
    with opened(where) as file:
        text = file.read(LIMIT + 1)
    try:
        return _files(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptCheckpoint(f"{where} cannot be read: {error!r:.200}.") from error


def _files(index: Any) -> dict[str, str]:
    names = {number: name for name, number in index["file_index"].items()}
    if foreign := [name for name in names.values() if not FILE.fullmatch(name)]:
        raise ValueError(f"it names a file {foreign[0]!r:.80}, which is no model-….safetensors")
    return {key: names[number] for key, number in index["block_index"].items()}
