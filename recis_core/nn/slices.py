"""A table in a state_dict, as slices of the hash: each rank writes keys of its own, so no rank's rows are taken for all.

    tables.<name>.slices.<beg>-<end>.ids      int64 [n]          rows whose slice is in [beg, end)
                                    .rows     storage [n, D]
                                    .slot.*   float32 [n, width]
    … slices.0-65536.columns.<beg>-<end>.…                       of a table that is cut by columns

Any number of ranks can load a state; each takes the slices that it owns, and reports missing ones.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import Snapshot, placement
from recis_core.exchange.full_state import of_all_ranks, whole_is_asked
from recis_core.nn import column_blocks as blocks
from recis_core.table.replacement import Replacement
from recis_core.table.table import SLICES

if TYPE_CHECKING:
    from recis_core.nn.hash_table import HashTable


SLICE = re.compile(r"(slices\.\d+-\d+)\.")
KEY = re.compile(r"slices\.(\d+)-(\d+)\.(ids|rows|slot\..+)")

_left_out: ContextVar[bool] = ContextVar("tables are left out of state_dicts", default=False)


class KeyPath:
    """Any attribute of a KeyPath is itself: torch.distributed.checkpoint follows state_dict keys as attributes."""

    def __getattr__(self, name: str) -> KeyPath:
        if name.startswith("_"):
            raise AttributeError(name)
        return self


@contextmanager
def left_out() -> Iterator[None]:
    """Inside, state_dict() and load_state_dict() skip tables."""
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)


def save(table: HashTable, destination: dict[str, Any], prefix: str) -> None:
    """Write this rank's slices; under get_model_state_dict(full_state_dict=True), a collective, those of all ranks."""
    if _left_out.get():
        return
    exchange = table.physical.exchange
    whole, only_first = (False, False) if exchange is None else whole_is_asked()
    if exchange is None or not whole:
        destination.update(_of_this_rank(table, prefix))
        return
    mine = partial(_of_this_rank, table, prefix)
    destination.update(of_all_ranks(exchange.channel, mine, table.name, only_first=only_first))


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
    """Replace the table by the state's rows; if something is missing or wrong, report it and change nothing.

    Collective with several ranks: all of them replace their rows, or none.
    """
    if _left_out.get():
        return
    mine = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    new, failure = None, None
    try:
        mine, narrow = blocks.joined(_tensors(mine), table.physical.columns)
        lacking, wrong = (narrow, []) if narrow else survey(table, mine)
        unexpected.extend(prefix + key for key in mine if not KEY.fullmatch(key))
        missing.extend(prefix + key for key in lacking)
        errors.extend(prefix + fault for fault in wrong)
        new = None if lacking or wrong else _replacement(table, mine)
    except ValueError as error:
        errors.append(f"{prefix}slices: {error}")
    except Exception as error:
        failure = error
    refusing = table.physical.agree_to_load([table.ordinal], refuses=new is None)
    if failure is not None:
        raise failure
    if new is not None and refusing:
        errors.append(f"{prefix}slices: rank(s) {refusing} refuse theirs; no rank took any of table {table.name!r}.")
    elif new is not None:
        new.commit()


def _tensors(mine: Mapping[str, Any]) -> dict[str, Tensor]:
    for key, value in mine.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{key} must be a Tensor; got {type(value).__name__}.")
    return dict(mine)


def _replacement(table: HashTable, mine: Mapping[str, Tensor]) -> Replacement:
    new = Replacement(table.physical, [table.ordinal])
    for name in _names(mine):
        load_slice(new, table, mine, name)
    return new


def survey(table: HashTable, mine: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """(missing keys that this rank needs, faults of the keys that are present)."""
    names = _names(mine)
    lacking = [f"{n}.{part}" for n in names for part in ("ids", "rows") if f"{n}.{part}" not in mine]
    if lacking:
        return lacking, []
    wrong = [f"{n}: {fault}" for n in names for fault in faults(table, mine, n)]
    wrong += [f"{a} and {b} overlap." for a, b in _overlapping(names)]
    if not wrong and sum(len(mine[f"{n}.ids"]) for n in names) != _distinct(mine, names):
        wrong = [f"{names[0]}: ids of the table are repeated, here or in its other slices."]
    lacking = [f"slices.{beg}-{end}.ids" for beg, end in _gaps(table, names)]
    lacking += [f"{n}.{part}" for n in names for part in _slots(mine) if f"{n}.{part}" not in mine]
    return (lacking, []) if lacking else ([], wrong)


def _slots(mine: Iterable[str]) -> list[str]:
    """Names of slots that any slice has; all slices must have them."""
    return sorted({found[3] for key in mine if (found := KEY.fullmatch(key)) and found[3].startswith("slot.")})


def _overlapping(names: list[str]) -> Iterator[tuple[str, str]]:
    for one, other in itertools.pairwise(sorted(names, key=_bounds)):
        if _bounds(other)[0] < _bounds(one)[1]:
            yield one, other


def _distinct(mine: Mapping[str, Tensor], names: list[str]) -> int:
    ids = [mine[f"{n}.ids"] for n in names]
    return len(torch.cat(ids).unique()) if ids and not ids[0].is_meta else sum(map(len, ids))


def needed(table: HashTable, mine: Iterable[str]) -> list[str]:
    """The slices among these keys that may hold rows of this rank, as "slices.<beg>-<end>"."""
    run = _run(table)
    bounds = {name: _bounds(name) for name in _names(mine)}
    return [] if run is None else [name for name, (beg, end) in bounds.items() if beg < run[1] and end > run[0]]


def _names(mine: Iterable[str]) -> list[str]:
    return sorted({found[1] for key in mine if (found := SLICE.match(key))})


def _run(table: HashTable) -> tuple[int, int] | None:
    """The slices whose rows belong on this rank."""
    return (0, SLICES) if table.physical.replicated else table.physical.slices(table.ordinal)


def _gaps(table: HashTable, names: list[str]) -> Iterator[tuple[int, int]]:
    """Runs of slices that belong on this rank and are missing from names."""
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


def faults(table: HashTable, mine: Mapping[str, Tensor], name: str) -> Iterator[str]:
    """What is wrong with one slice; for tensors on "meta" only shapes and dtypes are checked."""
    beg, end = _bounds(name)
    if not beg < end <= SLICES:
        yield f"slices are 0 to {SLICES}."
    ids, rows = mine[f"{name}.ids"], mine[f"{name}.rows"]
    dims = {table.dim, table.physical.spec.dim}
    if ids.dtype != torch.int64 or rows.shape not in [(len(ids), d) for d in dims] or rows.dtype != table.option.dtype:
        yield (
            f"wanted ids int64 [n] and rows {table.option.dtype} [n, {table.dim}]; "
            f"got {ids.dtype} {list(ids.shape)} and {rows.dtype} {list(rows.shape)}."
        )
        return
    yield from _slot_faults(table, mine, name, len(ids))
    # Where each rank takes some slices, no rank would load an id that is in the wrong one.
    if not ids.is_meta and _run(table) != (0, SLICES) and not bool(_inside(table, ids.cpu(), (beg, end)).all()):
        yield f"some ids are not of table {table.name!r}, or not of this slice."


def _slot_faults(table: HashTable, mine: Mapping[str, Tensor], name: str, count: int) -> Iterator[str]:
    """Slots of the table's optimizer must have its width; other slots need one line per row."""
    physical = table.physical
    wanted = {f"{name}.slot.{slot.name}": slot.width for slot in physical.slot_specs}
    whole = {physical.spec.dim: physical.row_dim}  # slots of a block of columns may come as wide as the whole row
    for key, values in mine.items():
        if not key.startswith(f"{name}.slot."):
            continue
        width = wanted.get(key)
        widths = values.shape[1:] if width is None else (width,)
        shapes = {(count, *widths), (count, *(whole.get(w, w) for w in widths))}
        if values.dtype != torch.float32 or values.dim() != 2 or tuple(values.shape) not in shapes:
            yield (
                f"{key.removeprefix(name + '.')} must be float32 [{count}, {width or 'width'}], as the table's optimizer "
                f"keeps it; got {values.dtype} {list(values.shape)}."
            )


def load_slice(new: Replacement, table: HashTable, mine: Mapping[str, Tensor], name: str) -> None:
    """Add the rows of one slice that belong on this rank."""
    head = f"{name}.slot."
    ids = mine[f"{name}.ids"].cpu()
    here = table.physical.keeps(ids, table.ordinal)
    slots = {key.removeprefix(head): value.detach().cpu()[here] for key, value in mine.items() if key.startswith(head)}
    ordinals = torch.full((int(here.sum()),), table.ordinal, dtype=torch.int32)
    new.add(Snapshot(ids[here], ordinals, mine[f"{name}.rows"].detach().cpu()[here], slots))
