"""A table in a state_dict: slices of the hash, so that no checkpointer takes one rank's rows for all.

    tables.<name>.slices.<beg>-<end>.ids      int64 [n]          rows whose slice is in [beg, end)
                                    .rows     storage [n, D]
                                    .slot.*   float32 [n, width]
    … slices.0-65536.columns.<beg>-<end>.…                       of a table that is cut by columns

Each rank writes what it owns under keys of its own. A state is loaded by any number of ranks; each takes what it
owns, and says so where slices of it are not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from backends import placement
from recis_core.exchange.whole import of_all_ranks, whole_is_asked
from recis_core.nn import column_blocks as blocks
from recis_core.table.physical import SLICES

if TYPE_CHECKING:
    from recis_core.nn.hash_table import HashTable


_left_out: ContextVar[bool] = ContextVar("tables are left out of state_dicts", default=False)


class KeyPath:
    """torch.distributed.checkpoint follows each key of a state_dict as attributes; here they end."""

    def __getattr__(self, name: str) -> KeyPath:
        if name.startswith("_"):
            raise AttributeError(name)
        return self


@contextmanager
def left_out() -> Iterator[None]:
    """Inside, state_dict() skips tables."""
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)


def save(table: HashTable, destination: dict[str, Any], prefix: str) -> None:
    """Write this rank's slices; all ranks' under get_model_state_dict(full_state_dict=True), which is collective."""
    if _left_out.get():
        return
    exchange = table.physical.exchange
    whole, only_first = (False, False) if exchange is None else whole_is_asked()
    if not whole:
        destination.update(_of_this_rank(table, prefix))
        return
    mine = partial(_of_this_rank, table, prefix)
    destination.update(of_all_ranks(exchange, mine, table.name, only_first=only_first))


def _of_this_rank(table: HashTable, prefix: str) -> dict[str, Tensor]:
    run = table.physical.slices(table.ordinal)
    if run is None:
        return {}
    columns = table.physical.columns
    cut = "" if columns == (0, table.physical.row_dim) else f"columns.{columns[0]}-{columns[1]}."
    mine, head = table.snapshot(), f"{prefix}slices.{run[0]}-{run[1]}.{cut}"
    inside = _inside(table, mine.ids, run)
    slots = {head + f"slot.{name}": values[inside] for name, values in mine.slots.items()}
    return {head + "ids": mine.ids[inside], head + "rows": mine.weights[inside], **slots}


def _inside(table: HashTable, ids: Tensor, run: tuple[int, int]) -> Tensor:
    """bool [n]. A replicated table holds rows of all slices."""
    uid = table.physical.spec.uids[table.ordinal]
    found = torch.from_numpy(placement.slices(ids.numpy(), np.array(uid, np.uint32)).astype("int64"))
    return (found >= run[0]) & (found < run[1])


def load(
    table: HashTable,
    state: Mapping[str, Any],
    prefix: str,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Replace the table by the state's rows, or say what is missing or wrong and leave it."""
    mine = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    mine, narrow = blocks.joined(mine, table.physical.columns)
    missing.extend(prefix + key for key in narrow)
    if narrow:
        return
    unexpected.extend(prefix + key for key in mine if not key.startswith("slices."))
    lacking, wrong = survey(table, mine)
    missing.extend(prefix + key for key in lacking)
    errors.extend(prefix + fault for fault in wrong)
    if not lacking and not wrong:
        table.clear()
        for name in _names(mine):
            load_slice(table, mine, name)


def survey(table: HashTable, mine: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """(keys that this rank's rows need and that are not there, what is wrong with those that are)."""
    names = _names(mine)
    lacking = [f"{n}.{part}" for n in names for part in ("ids", "rows") if f"{n}.{part}" not in mine]
    lacking += [f"slices.{beg}-{end}.ids" for beg, end in _gaps(table, names)]
    return lacking, [] if lacking else [f"{n}: {fault}" for n in names if (fault := _fault(table, mine, n))]


def needed(table: HashTable, mine: Iterable[str]) -> list[str]:
    """The slices among these keys that may hold rows of this rank, as "slices.<beg>-<end>"."""
    run = _run(table)
    bounds = {name: _bounds(name) for name in _names(mine)}
    return [] if run is None else [name for name, (beg, end) in bounds.items() if beg < run[1] and end > run[0]]


def _names(mine: Iterable[str]) -> list[str]:
    return sorted({".".join(key.split(".")[:2]) for key in mine if key.startswith("slices.")})


def _run(table: HashTable) -> tuple[int, int] | None:
    """The slices whose rows belong on this rank."""
    return (0, SLICES) if table.physical.replicated else table.physical.slices(table.ordinal)


def _gaps(table: HashTable, names: list[str]) -> Iterator[tuple[int, int]]:
    """Runs of slices that belong on this rank and are in none of the names."""
    run = _run(table)
    if run is None:
        return
    at = run[0]
    for beg, end in sorted(_bounds(name) for name in names):
        if beg > at and at < run[1]:
            yield at, min(beg, run[1])
        at = max(at, end)
    if at < run[1]:
        yield at, run[1]


def _bounds(name: str) -> tuple[int, int]:
    beg, _, end = name.removeprefix("slices.").partition("-")
    return int(beg), int(end)


def _fault(table: HashTable, mine: Mapping[str, Tensor], name: str) -> str | None:
    ids, rows = mine[f"{name}.ids"], mine[f"{name}.rows"]
    dims = {table.dim, table.physical.spec.dim}
    if ids.dtype != torch.int64 or rows.shape not in [(len(ids), d) for d in dims] or rows.dtype != table.option.dtype:
        return (
            f"wanted ids int64 [n] and rows {table.option.dtype} [n, {table.dim}]; "
            f"got {ids.dtype} {list(ids.shape)} and {rows.dtype} {list(rows.shape)}."
        )
    return None


def load_slice(table: HashTable, mine: Mapping[str, Tensor], name: str) -> None:
    """Write those rows of one slice that belong on this rank."""
    head = f"{name}.slot."
    ids = mine[f"{name}.ids"].cpu()
    here = table.physical.keeps(ids, table.ordinal)
    slots = {key.removeprefix(head): value.cpu()[here] for key, value in mine.items() if key.startswith(head)}
    table._write(ids[here], mine[f"{name}.rows"].cpu()[here], slots)
