"""Tables of a RecIS v1 checkpoint, with what its optimizer knows of them.

Sizes: N rows of a block.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recis_core.backends.errors import CorruptCheckpoint, StateMismatch
from recis_core.serialize.imports.pickles import read_plain
from recis_core.serialize.imports.recis_checkpoint import RecisCheckpoint
from recis_core.serialize.imports.recis_keys import ID, ROWS, STEP, BlockKey, our_slots
from recis_core.serialize.imports.source import ROWS as AT_ONCE
from recis_core.serialize.imports.source import StoredTable, TableSource
from recis_core.serialize.table_block import TableBlock

LOG = logging.getLogger("recis_core.serialize")
DENSE, EXTRA = "model.pt", "extra.pt"
SMALLEST = 2.0**-149  # above 0 in float32
Slots = dict[str, list[BlockKey]]


def recis_source(
    path: str | os.PathLike[str], *, beta2: float = 0.999, step_filter: str = STEP, optimizer: str | None = None
) -> TableSource:
    """The tables and the dense side of a RecIS v1 checkpoint; of an output directory the newest one.

    Rows, Adam's moments (slots m and v, in float32) and the last step that used a row (mark "stamps") are read; other slots
    are listed in `StoredTable.ignored`. t comes from beta2's power, exact to about 6e-5 t, and at least
    ln(2**-149)/ln(beta2) where that power was too small for float32. RecIS keeps one t for all tables.

    Ids of tables that an EmbeddingEngine of RecIS trained have 52 bits: look such tables up by `id & (2**52 - 1)`.

    Args:
      beta2: of the optimizer, which RecIS does not save.
      step_filter: the name of the filter's slot, if another was given to the filter.
      optimizer: whose slots are read, as "sparse_adamw", where a table has those of several.

    Raises:
      FileNotFoundError, CorruptCheckpoint: as RecisCheckpoint.
      StateMismatch: a table's blocks do not fit each other, or have slots of several optimizers.
    """
    checkpoint = RecisCheckpoint(path)
    tables = {
        name: _table(checkpoint, name, slots, beta2, step_filter, optimizer)
        for name, slots in sorted(checkpoint.table_slots().items())
    }
    path, extra = checkpoint.path, _extra(checkpoint.path)
    return TableSource(str(path), tables, _step(extra), lambda: recis_dense(path), lambda: _dense_optimizer(extra))


def recis_dense(path: Path) -> dict[str, Tensor]:
    """Tensors of model.pt, by the model's own names; {} without such a file. Raises CorruptCheckpoint."""
    file = path / DENSE
    if not file.exists():
        return {}
    state = read_plain(file)
    if not isinstance(state, dict):
        raise CorruptCheckpoint(f"{file} holds a {type(state).__name__}; wanted a state_dict.")
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def _extra(path: Path) -> Mapping[str, Any]:
    """What extra.pt holds; {} where it cannot be read."""
    file = path / EXTRA
    if not file.exists():
        return {}
    try:
        extra = read_plain(file)
    except CorruptCheckpoint as error:  # it may hold whatever the user registered
        LOG.warning("neither the step nor the dense optimizer is known: %s", error)
        return {}
    return extra if isinstance(extra, Mapping) else {}


def _step(extra: Mapping[str, Any]) -> int | None:
    step = extra.get("global_step")
    return int(step) if isinstance(step, Tensor) and step.numel() == 1 else None


def _dense_optimizer(extra: Mapping[str, Any]) -> dict[str, Any]:
    state = extra.get("dense_optimizer")
    return dict(state) if isinstance(state, Mapping) and {"state", "param_groups"} <= set(state) else {}


def _table(
    checkpoint: RecisCheckpoint, name: str, slots: Slots, beta2: float, step_filter: str, optimizer: str | None
) -> StoredTable:
    if lacking := {ID, ROWS} - set(slots):
        raise StateMismatch(f"{checkpoint.path}: table {name!r} lacks {sorted(lacking)}; it has {sorted(slots)}.")
    moments = our_slots(name, list(slots), optimizer)
    marks = {"stamps": step_filter} if step_filter in slots else {}
    read = {ID, ROWS, *moments.values(), *marks.values()}
    if uneven := {slot: len(slots[slot]) for slot in read if len(slots[slot]) != len(slots[ID])}:
        raise StateMismatch(f"{checkpoint.path}: table {name!r} has {len(slots[ID])} parts of ids, but of {uneven}.")
    pieces = [_Part(checkpoint, name, part, slots, moments, marks) for part in range(len(slots[ID]))]
    forms = {(dtype, tuple(shape[1:])) for dtype, shape in map(checkpoint.form_of, slots[ROWS])}
    if len(forms) != 1 or not all(len(shape) == 1 for _, shape in forms):
        raise StateMismatch(
            f"{checkpoint.path}: rows of table {name!r} have forms {sorted(map(str, forms))}; wanted [n, dim]."
        )
    ((dtype, (dim,)),) = forms
    rows = sum(checkpoint.form_of(key)[1][0] for key in slots[ROWS])
    t, ignored = _t(checkpoint, moments, beta2), tuple(sorted(set(slots) - read))
    return StoredTable(name, dim, dtype, pieces, tuple(moments), rows, t=t, ignored=ignored)


def _t(checkpoint: RecisCheckpoint, moments: dict[str, str], beta2: float) -> int | None:
    """Applied steps, from beta2's power; None without it."""
    if "v" not in moments:
        return None
    name = moments["v"].removesuffix("exp_avg_sq") + "beta2"
    if name not in checkpoint.tensor_names():
        return None
    power = float(checkpoint.read_tensor(name).flatten()[0])
    if not 0 <= power <= 1:
        raise StateMismatch(f"{checkpoint.path}: {name!r} must be a power of beta2, in [0, 1]; got {power}.")
    return round(math.log(max(power, SMALLEST)) / math.log(beta2))


@dataclass(frozen=True)
class _Part:
    """One shard's rows of a table."""

    checkpoint: RecisCheckpoint
    table: str
    part: int
    slots: Slots
    moments: dict[str, str]
    marks: dict[str, str]

    @property
    def where(self) -> str:
        key = self.slots[ROWS][self.part]
        return f"{self.checkpoint.file_of(key)}, {key}"

    def ids(self) -> Iterator[Tensor]:
        with self.checkpoint.slice_of(self.slots[ID][self.part]) as ids:
            for begin in range(0, ids.get_shape()[0], AT_ONCE):
                yield ids[begin : begin + AT_ONCE]

    def blocks(self, rows: int) -> Iterator[TableBlock]:
        self._require_one_length()
        names = {ID: ID, ROWS: ROWS, **self.moments, **self.marks}
        with ExitStack() as opened:
            files = {
                name: opened.enter_context(self.checkpoint.slice_of(self.slots[slot][self.part]))
                for name, slot in names.items()
            }
            for begin in range(0, files[ID].get_shape()[0], rows):
                yield self._block({name: file[begin : begin + rows] for name, file in files.items()})

    def _block(self, read: dict[str, Tensor]) -> TableBlock:
        slots = {name: read[name].float() for name in self.moments}
        marks = {name: read[name].reshape(-1).to(torch.int32) for name in self.marks}
        return TableBlock(read[ID], read[ROWS], slots, marks)

    def _require_one_length(self) -> None:
        """Raises StateMismatch unless each slot has a row for each id."""
        wanted = {ID: ID, ROWS: ROWS, **self.moments, **self.marks}
        forms = {slot: self.checkpoint.form_of(self.slots[slot][self.part]) for slot in wanted.values()}
        kind, shape = forms[ID]
        lengths = {slot: each[1][0] if each[1] else 0 for slot, each in forms.items()}
        if kind != torch.int64 or len(shape) != 1 or set(lengths.values()) != {shape[0]}:
            raise StateMismatch(
                f"{self.where}: wanted ids int64 [n], and n rows in each slot; got {kind}, rows {lengths}."
            )
