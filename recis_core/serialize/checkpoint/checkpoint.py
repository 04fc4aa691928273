"""Reads checkpoints without a model.

Sizes: n rows of a block, D dim.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recis_core.backends.errors import CorruptCheckpoint, StateMismatch
from recis_core.io.read_ahead import read_ahead
from recis_core.serialize.checkpoint.reused import Reused
from recis_core.serialize.checkpoint.table_files import NO_IDS, cut, side_by_side
from recis_core.serialize.manifest import MANIFEST, Manifest, read_manifest
from recis_core.serialize.part_file import DTYPES, Memory, file_name, new_memory
from recis_core.serialize.saved_state import latest_state, value_of
from recis_core.serialize.state_directory import state_name, step_of_name
from recis_core.serialize.store_path import Place, place_of
from recis_core.serialize.table_block import TableBlock
from recis_core.serialize.table_entry import forms_of
from recis_core.serialize.tree import join_tensors

BLOCK_ROWS = 65_536
MARKS = ("scores", "stamps")


@dataclass(frozen=True)
class TableInfo:
    """What a checkpoint says of a table.

    rows: in this checkpoint's own files; of a delta those that came or changed since its base. dim: columns. dtype: of rows.
    slots: {name: width}. shards: files. whole: whether the files hold all rows; else older ones lie in the base.
    """

    rows: int
    dim: int
    dtype: torch.dtype
    slots: Mapping[str, int]
    shards: int
    whole: bool


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint at a path or URL; of a directory of checkpoints the latest. Reads and checks manifests alone.

    Raises:
      FileNotFoundError: there is none.
      CorruptCheckpoint: a manifest is missing, damaged or of another format, or a delta's base is not the one it was
        made upon.
    """
    return Checkpoint(latest_state(place_of(path)))


class Checkpoint:
    """path: of its directory. step; environment: what wrote it, JSON values. parts: names of what `part` gives.

    base: what a delta follows. alone: whether the base is not looked up; then only `part` can be used.
    """

    def __init__(self, path: Place, manifest: Manifest | None = None, *, alone: bool = False) -> None:
        self.path, self.manifest = path, manifest or read_manifest(path)
        self.step, head = self.manifest.step, self.manifest.head
        if step_of_name(path.name) not in (None, self.step):
            raise CorruptCheckpoint(f"{path / MANIFEST} is of step {self.step}, which its directory's name is not.")
        self.environment: Mapping[str, Any] = head.environment
        self._of_tables = {part for entry in head.tables.values() for group in entry.files for part in group}
        self.parts = tuple(name for name in self.manifest.parts if name not in self._of_tables)
        self.base: Checkpoint | None = None if alone else self._base()

    @property
    def kind(self) -> str:
        """ "full", or "delta": rows that did not change since the base are there."""
        return self.manifest.head.kind

    def _base(self) -> Checkpoint | None:
        wanted = self.manifest.head.base
        if wanted is None:
            return None
        if wanted.step >= self.step:
            raise CorruptCheckpoint(f"{self.path / MANIFEST}: its base, step {wanted.step}, is no earlier one.")
        found = Checkpoint(self.path.parent / state_name(wanted.step))
        if found.manifest.xxh3_128 != wanted.xxh3_128:
            raise CorruptCheckpoint(
                f"{self.path} holds what changed since another checkpoint of step {wanted.step} than {found.path}, which "
                "has replaced that one. Use an older or a full checkpoint."
            )
        return found

    @property
    def chain(self) -> list[Checkpoint]:
        """This one, its base, …, to the full one."""
        return [self] + ([] if self.base is None else self.base.chain)

    @cached_property
    def tables(self) -> dict[str, TableInfo]:
        return {name: self._info(name) for name in self.manifest.head.tables}

    def _info(self, name: str) -> TableInfo:
        entry = self.manifest.head.tables[name]
        rows = sum(forms_of(self.manifest.parts[group[0]])["ids"][1][0] for group in entry.files)
        return TableInfo(rows, entry.dim, DTYPES[entry.dtype], entry.slots, len(entry.files), entry.whole)

    def blocks(self, name: str, rows: int = BLOCK_ROWS) -> Iterator[TableBlock]:
        """A table's rows in blocks of at most `rows`, each id once; of a delta with those of its base.

        Three files' rows are in memory at a time, and the ids of deltas.

        Raises:
          StateMismatch: there is no such table. CorruptCheckpoint: a file is missing or damaged.
        """
        if name not in self.tables:
            raise StateMismatch(f"{self.path} has no table {name!r}; it has {', '.join(sorted(self.tables))[:300]}.")
        if type(rows) is not int or rows < 1:
            raise ValueError(f"rows of a block must be a whole number, at least 1; got {rows!r}.")
        return self._blocks(name, rows)

    def _blocks(self, name: str, rows: int) -> Iterator[TableBlock]:
        newer, chain = NO_IDS, self._chain_of(name)
        marks = set.intersection(*(checkpoint._marks(name) for checkpoint in chain))
        for checkpoint in chain:
            seen, last = [newer], checkpoint.tables[name].whole
            for block, erased in checkpoint.pieces(name):
                if len(block.ids):
                    block = replace(block, marks={mark: block.marks[mark] for mark in sorted(marks)})
                left = cut(block, ~torch.isin(block.ids, newer)) if len(newer) else block
                for begin in range(0, len(left.ids), rows):
                    yield cut(left, slice(begin, begin + rows))
                if not last:
                    seen += [block.ids.clone(), erased]
                del block, left  # the next file may use their memory
            newer = torch.cat(seen).unique() if not last else newer

    def _marks(self, name: str) -> set[str]:
        """Marks that all of this checkpoint's own rows have."""
        groups = self.manifest.head.tables[name].files
        forms = [forms_of(self.manifest.parts[group[0]]) for group in groups]
        found = [set(form["marks"]) for form in forms if form["ids"][1][0]]
        return set.intersection(*found) if found else set(MARKS)

    def _chain_of(self, name: str) -> list[Checkpoint]:
        """This checkpoint and older ones, to the first that has all rows of the table."""
        found: list[Checkpoint] = []
        for checkpoint in self.chain:
            if name not in checkpoint.tables:
                raise CorruptCheckpoint(f"{checkpoint.path} lacks table {name!r}, whose changes {self.path} holds.")
            found.append(checkpoint)
            if checkpoint.tables[name].whole:
                return found
        raise CorruptCheckpoint(
            f"no checkpoint from {self.path} back to {found[-1].path} has all rows of table {name!r}."
        )

    def pieces(self, name: str) -> Iterator[tuple[TableBlock, Tensor]]:
        """The rows of each of this checkpoint's own files, and ids that went since its base, int64 [k].

        A thread reads the next file while one is in use.
        """
        memory = Reused(new_memory)
        return read_ahead((partial(self._piece, g, memory.take) for g in self.manifest.head.tables[name].files), 1)

    def _piece(self, group: list[str], memory: Memory) -> tuple[TableBlock, Tensor]:
        trees = [value_of(self.path, self.manifest, part, memory) for part in group]
        blocks = [TableBlock(tree["ids"], tree["rows"], tree["slots"], tree["marks"]) for tree in trees]
        if any(not torch.equal(block.ids, blocks[0].ids) for block in blocks[1:]):
            raise CorruptCheckpoint(f"{self.path}: blocks of columns {', '.join(group)} have other ids.")
        return side_by_side(blocks), trees[0]["erased"]

    def rows_there(self, name: str) -> int:
        """How many rows a table's full files have, as far as files on this machine have the sizes that manifests say.

        An estimate: deltas add rows, and erase some.
        """
        full = self._chain_of(name)[-1]
        groups = [group for group in full.manifest.head.tables[name].files if full._are_there(group)]
        return sum(forms_of(full.manifest.parts[group[0]])["ids"][1][0] for group in groups)

    def _are_there(self, parts: list[str]) -> bool:
        files = [(self.file_of(part), self.manifest.parts[part].hashes.bytes) for part in parts]
        return all(isinstance(f, Path) and f.is_file() and f.stat().st_size == size for f, size in files)

    def part(self, name: str) -> Any:
        """A part's value: nested dicts, lists, scalars and tensors. Raises StateMismatch, CorruptCheckpoint."""
        if name not in self.parts:
            raise StateMismatch(f"{self.path} has no part {name!r}; it has {', '.join(sorted(self.parts))[:300]}.")
        return value_of(self.path, self.manifest, name)

    def file_of(self, part: str) -> Place:
        folder = self.manifest.head.folder
        return (self.path / folder if folder else self.path) / file_name(part)

    def keys(self, name: str) -> list[str]:
        """The names in a part that is a dict, from the manifest alone. Raises StateMismatch if it is none."""
        part = self.manifest.parts[name]
        tree = join_tensors(part.tree, part.tensors)
        if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
            raise StateMismatch(f"{self.path}: part {name!r} is no dict of names.")
        return list(tree)

    def verify(self) -> None:
        """Read every byte of this checkpoint and its bases. Raises CorruptCheckpoint, naming file and section."""
        for checkpoint in self.chain:
            for name in checkpoint.manifest.parts:
                value_of(checkpoint.path, checkpoint.manifest, name)
