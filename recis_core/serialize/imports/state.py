"""Tables of our own checkpoints and training states as a TableSource, so that they can warm-start other runs and be compared.

A checkpoint has files for each table; a training state of `recis train --save` or save_state has parts storage-*, in which
tables that share a storage lie together (serialize/tables.py).

Sizes: n rows of a storage.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recis_core.serialize.checkpoint.checkpoint import Checkpoint, open_checkpoint
from recis_core.serialize.checkpoint.table_files import cut, side_by_side
from recis_core.serialize.imports.source import Piece, StoredTable, TableSource
from recis_core.serialize.part_file import DTYPES
from recis_core.serialize.parts import naming
from recis_core.serialize.saved_state import SavedState
from recis_core.serialize.shared_state import by_rank
from recis_core.serialize.table_block import TableBlock
from recis_core.serialize.tables import storage_parts
from recis_core.serialize.tree import join_tensors

MARKS = ("stamps", "scores")


def state_source(path: str | os.PathLike[str]) -> TableSource:
    """The tables and the dense side of a checkpoint or training state; of a directory of them the latest.

    Of a checkpoint one file's rows are in memory at a time; of a training state one rank's storage is, with all tables in it.

    Raises:
      FileNotFoundError: there is none. CorruptCheckpoint: a file is missing or damaged.
    """
    checkpoint = open_checkpoint(path)
    return source_of(checkpoint, _t(checkpoint))


def source_of(checkpoint: Checkpoint, t: Mapping[str, int] | None = None) -> TableSource:
    """The same of an open one, read from its manifest alone. t: of the tables, by name."""
    t = t or {}
    tables = {name: _table(checkpoint, name, t) for name in sorted(checkpoint.tables)}
    return TableSource(
        str(checkpoint.path), tables | _of_state(checkpoint, t), checkpoint.step, lambda: _dense(checkpoint)
    )


def _dense(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return dict(checkpoint.part("dense")) if "dense" in checkpoint.parts else {}


def _table(checkpoint: Checkpoint, name: str, t: Mapping[str, int]) -> StoredTable:
    info = checkpoint.tables[name]
    rows = info.rows if info.whole else None
    pieces = [_Merged(checkpoint, name)]
    return StoredTable(name, info.dim, info.dtype, pieces, tuple(info.slots), rows, distinct=True, t=t.get(name))


def _t(checkpoint: Checkpoint) -> Mapping[str, int]:
    """Applied steps by table, of the optimizer's part, bare or joined, or of what was imported; {} where neither is."""
    for part, sparse in (("optimizer", "sparse"), ("imported", "")):
        if part in checkpoint.parts:
            state = checkpoint.part(part)
            inner = state.get(sparse, state) if isinstance(state, Mapping) else {}
            found = inner.get("t") if isinstance(inner, Mapping) else None
            if isinstance(found, Mapping):
                return found
    return {}


@dataclass(frozen=True)
class _Merged:
    """A checkpoint's table, a delta's with the rows of its base."""

    checkpoint: Checkpoint
    name: str

    @property
    def where(self) -> str:
        return f"{self.checkpoint.path}, table {self.name}"

    def ids(self) -> Iterator[Tensor]:
        for block in self.checkpoint.blocks(self.name):
            yield block.ids

    def blocks(self, rows: int) -> Iterator[TableBlock]:
        return self.checkpoint.blocks(self.name, rows)


def _of_state(checkpoint: Checkpoint, t: Mapping[str, int]) -> dict[str, StoredTable]:
    """Tables of a training state's storages; their form comes from the manifest, no row is read."""
    if not isinstance(checkpoint.path, Path):
        return {}  # training states are written on this machine alone
    found: dict[str, StoredTable] = {}
    state = SavedState(checkpoint.path)
    for part in dict.fromkeys(name.split(".")[0] for name in storage_parts(checkpoint.parts)):
        parts = by_rank(checkpoint.parts, part)
        forms = [_form(checkpoint, name) for name in parts]
        with naming(state, *parts):
            for ordinal, name in enumerate(forms[0]["names"]):
                found[name] = replace(_stored(state, parts, forms, ordinal, name), t=t.get(name))
    return found


def _form(checkpoint: Checkpoint, part: str) -> dict[str, Any]:
    """The part's value with empty tensors of its dtypes and shapes."""
    saved = checkpoint.manifest.parts[part]
    tensors = {
        name: torch.empty(shape, dtype=DTYPES[kind], device="meta") for name, (kind, shape) in saved.tensors.items()
    }
    form: dict[str, Any] = join_tensors(saved.tree, tensors)
    return form


def _stored(state: SavedState, parts: list[str], forms: list[dict[str, Any]], ordinal: int, name: str) -> StoredTable:
    sharding = str(forms[0].get("shardings", [""])[ordinal if "shardings" in forms[0] else 0])
    by_columns = sharding == "column"
    whole = forms if by_columns else forms[:1]
    dim = sum(int(form["snapshot"]["weights"].shape[1]) for form in whole)
    used = parts[:1] if sharding == "replicated" else parts
    groups = [used] if by_columns else [[part] for part in used]
    pieces: list[Piece] = [_Stored(state, tuple(group), ordinal) for group in groups]
    rows = sum(len(form["snapshot"]["ids"]) for form in (whole[:1] if by_columns else forms[: len(used)]))
    snapshot = forms[0]["snapshot"]
    return StoredTable(
        name, dim, snapshot["weights"].dtype, pieces, tuple(snapshot["slots"]),
        rows if len(forms[0]["names"]) == 1 else None, distinct=True,
    )  # fmt: skip


@dataclass(frozen=True)
class _Stored:
    """One rank's rows of a table in a training state; or all ranks' columns, side by side."""

    state: SavedState
    parts: tuple[str, ...]
    ordinal: int

    @property
    def where(self) -> str:
        return ", ".join(str(self.state.file_of(part)) for part in self.parts)

    def ids(self) -> Iterator[Tensor]:
        yield self._whole().ids

    def blocks(self, rows: int) -> Iterator[TableBlock]:
        whole = self._whole()
        for begin in range(0, len(whole.ids), rows):
            yield cut(whole, slice(begin, begin + rows))

    def _whole(self) -> TableBlock:
        with naming(self.state, *self.parts):
            return side_by_side([self._block(self.state[part]["snapshot"]) for part in self.parts])

    def _block(self, snapshot: Mapping[str, Any]) -> TableBlock:
        marks = {name: snapshot[name] for name in MARKS if snapshot.get(name) is not None}
        mine = snapshot["tables"] == self.ordinal
        return cut(TableBlock(snapshot["ids"], snapshot["weights"], snapshot["slots"], marks), mine)
