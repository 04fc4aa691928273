"""Warm start: rows of a source into tables of a model, in bounded memory, in any tier, on any number of ranks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from recis_core.backends.errors import StateMismatch
from recis_core.nn.hash_table import HashTable, filter_out_sparse_param
from recis_core.serialize.checkpoint.load_rows import loading
from recis_core.serialize.imports.selection import selected
from recis_core.serialize.imports.source import ROWS, NonFinite, StoredTable, TableSource
from recis_core.serialize.shared_state import failing_together
from recis_core.serialize.table_block import TableBlock

LOG = logging.getLogger("recis_core.serialize")


@dataclass(frozen=True)
class LoadedTables:
    """What load_tables_from did.

    rows: {table: rows that this rank took}. fresh: tables of the model that got no row. unused: tables of the source that
    went into none. slots_anew: {table: its optimizer's slots that start anew, for the source had none that fit}.
    """

    rows: Mapping[str, int]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    slots_anew: Mapping[str, tuple[str, ...]]


def load_tables_from(
    source: TableSource,
    into: nn.Module | Mapping[str, HashTable],
    *,
    load: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    replace: bool = False,
    non_finite: NonFinite = "refuse",
    optimizer: Any = None,
) -> LoadedTables:
    """Write rows of a source into the tables of a model that have their names. Collective where ranks share the tables.

        load_tables_from(recis_source("output_dir"), engine, rename={"user_id": "user"})

    A block of 65,536 rows is in memory at a time, beside the table; a table in tiers fills from the top. Rows count as used
    now. Slots go where the table's optimizer has slots of the name and width, or wait for an optimizer that is made later.

    All tables get their rows, on all ranks, or none does: after an error or an interrupt each has the rows, slots and marks
    that it had.

    Args:
      source: of recis_source, torchrec_source, embedding_source, arrays_source, parquet_source or state_source.
      into: the model, or {name: table}.
      load, exclude: which of the source's tables, by names or patterns as fnmatch has them.
      rename: {table of the source: table of the model}; a * stands for the same letters in both.
      replace: whether each table loses its other rows. Else rows are written over those of their ids.
      non_finite: as StoredTable.blocks has it.
      optimizer: the tables' sparse optimizer, whose t then is the source's, where that is known: Adam needs it beside its
        moments. A joined one's is `joint.sparse`.

    Raises:
      StateMismatch: no table fits, or one has another dim; nothing was loaded. Or a row is not finite.
      CorruptCheckpoint: a file cannot be read. ExchangeMismatch: another rank raised.
    """
    tables = dict(into) if isinstance(into, Mapping) else filter_out_sparse_param(into)
    with failing_together(next((t.physical.exchange for t in tables.values()), None)):
        pairs = selected(list(source.tables), list(tables), load, exclude, rename or {}, source.name)
        for name, theirs in pairs.items():
            _require_dim(tables[name], source.tables[theirs], source.name)
        state = _with_t(optimizer, {name: source.tables[theirs].t for name, theirs in pairs.items()})
    rows, anew = {}, {}
    with loading([tables[name] for name in pairs], replace=replace) as together:
        for name, theirs in pairs.items():
            taken: set[str] = set()
            blocks = _as_table(tables[name], source.tables[theirs], non_finite, taken)
            rows[name] = together.take(tables[name], blocks)
            anew[name] = tuple(sorted(set(_widths(tables[name]) or ()) - taken))
    if state is not None:
        optimizer.load_state_dict(state)
    found = LoadedTables(
        rows,
        fresh=tuple(sorted(set(tables) - set(pairs))),
        unused=tuple(sorted(set(source.tables) - set(pairs.values()))),
        slots_anew={name: slots for name, slots in anew.items() if slots},
    )
    LOG.info("%s: loaded %s", source.name, found)
    return found


def _require_dim(table: HashTable, found: StoredTable, where: str) -> None:
    if found.dim != table.dim:
        raise StateMismatch(
            f"{where}: rows of table {found.name!r} have dim {found.dim}; table {table.name!r} of the model has {table.dim}. "
            "Leave the table out (exclude=), or build the model with that dim."
        )


def _widths(table: HashTable) -> dict[str, int] | None:
    """Columns of the slots of the table's optimizer; None without one: then all slots wait for it."""
    physical = table.physical
    if physical.optimizer is None:
        return None
    own = {slot.name for slot in physical.own_slots}
    return {
        slot.name: table.dim if slot.width == physical.spec.dim else slot.width
        for slot in physical.slot_specs
        if slot.name not in own
    }


def _as_table(table: HashTable, found: StoredTable, non_finite: NonFinite, taken: set[str]) -> Iterator[TableBlock]:
    """Blocks in the table's dtype, with the slots that it takes, and without another run's marks. `taken` gets their names."""
    widths = _widths(table)
    for block in found.blocks(ROWS, non_finite=non_finite):
        slots = {
            name: values.contiguous()
            for name, values in block.slots.items()
            if widths is None or widths.get(name) == values.shape[1]
        }
        taken.update(slots)
        yield replace(block, rows=block.rows.to(table.option.dtype), slots=slots, marks={})


def _with_t(optimizer: Any, t: Mapping[str, int | None]) -> Any:
    """The optimizer's state with these t, checked; None where there is nothing to load."""
    known = {name: steps for name, steps in t.items() if steps is not None}
    if optimizer is None or not known:
        return None
    state = optimizer.state_dict()
    if not isinstance(state, dict) or "t" not in state:
        raise TypeError(
            f"optimizer must be a sparse one, whose state holds t; got {type(optimizer).__name__}. Of a joined one give .sparse."
        )
    state = state | {"t": state["t"] | {name: n for name, n in known.items() if name in state["t"]}}
    optimizer.read_state(state)
    return state
