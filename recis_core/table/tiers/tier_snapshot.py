"""All of a tiered table out and in, wherever its rows lie; or its keys alone.

Sizes: n rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from recis_core.backends import Snapshot
from recis_core.backends.records import Marks
from recis_core.backends.row_checks import check_rows
from recis_core.table.tiers.key_counts import counted
from recis_core.table.tiers.lower_tiers import Fetched
from recis_core.table.tiers.row_format import Rows, new_marks

if TYPE_CHECKING:
    from recis_core.table.tiers.tiered_state import Keys, TieredState

AT_ONCE = 1 << 16
HELD_ON = ("held", "next_use")  # columns that planned calls go on with, whatever becomes of a row


def export(state: TieredState) -> Snapshot:
    """Ascending by (uid, signed id), as other tables; without a placement, for rows have none that lasts."""
    here = state.device.known_rows()
    ids, tables = state.device.index.keys(here)
    parts = [(ids, tables, state.device.read(here))]
    for ids, tables, rows in state.lower.scan():
        only = np.flatnonzero(state.device.find(ids, tables) < 0)
        parts.append((ids[only], tables[only], rows.pick(only)))
    ids, tables = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    rows = Rows(
        torch.cat([part[2].weights for part in parts]),
        {slot.name: torch.cat([part[2].slots[slot.name] for part in parts]) for slot in state.slots},
        np.concatenate([part[2].marks for part in parts]),
    )
    order = np.lexsort((ids, np.array(state.spec.uids, np.uint32)[tables]))
    rows = rows.pick(order)
    stamps = torch.from_numpy(rows.marks["used"].copy())
    scores = torch.from_numpy(rows.marks["uses"].copy()) if state.device.counts else None
    ids, tables = ids[order], tables[order]
    return Snapshot(
        torch.from_numpy(ids), torch.from_numpy(tables), rows.weights, rows.slots, stamps=stamps, scores=scores
    )


def marks(state: TieredState) -> tuple[Marks, np.ndarray]:
    """Ascending as in `export`, with row numbers on the device, -1 for others; and which those are, bool [n].

    Scores are as TableSpec.score says: what the tiers' policy goes by is none of the table's.
    """
    here = state.device.known_rows()
    ids, tables = state.device.index.keys(here)
    parts = [(ids, tables, state.device.scores[here], state.device.index.at["used"][here])]
    for ids, tables, kept in state.lower.scan_marks():
        only = state.device.find(ids, tables) < 0
        scores = kept["uses" if state.device.counts else "used"]
        parts.append((ids[only], tables[only], scores[only], kept["used"][only]))
    ids, tables, scores, stamps = (np.concatenate([part[k] for part in parts]) for k in range(4))
    order = np.lexsort((ids, np.array(state.spec.uids, np.uint32)[tables]))
    ids, tables, scores, stamps = (x[order] for x in (ids, tables, scores, stamps))
    rows = state.device.find(ids, tables).astype(np.int32)
    tensors = (torch.from_numpy(x) for x in (ids, tables, rows, scores, stamps))
    return Marks(*tensors), rows < 0


def restore(state: TieredState, snapshot: Snapshot) -> None:
    """Rows are written below the device; those that are on it are overwritten there, as are those that find no room below.

    All of them or none: what breaks off takes back what was written, which until then is held in memory.
    """
    known = {slot.name for slot in state.slots}
    slots = {name: values.detach().cpu().float() for name, values in snapshot.slots.items() if name in known}
    before: list[Before] = []
    try:
        for beg in range(0, len(snapshot.ids), AT_ONCE):
            part = slice(beg, beg + AT_ONCE)
            _restore_part(state, snapshot, part, {name: values[part] for name, values in slots.items()}, before)
    except BaseException:
        state.lock.whole(lambda: _take_back(state, before))
        raise


@dataclass
class Before:
    """Some keys as they were, wherever they lay."""

    ids: np.ndarray
    tables: np.ndarray
    made: np.ndarray
    here: np.ndarray  # int32 [n], rows on the device, -1 for none
    columns: dict[str, np.ndarray]  # of those there
    values: Rows
    fetched: Fetched  # what lay below


def _before(state: TieredState, ids: np.ndarray, tables: np.ndarray) -> Before:
    here = state.device.find(ids, tables)
    there = here[here >= 0]
    columns = {name: state.device.index.at[name][there] for name in state.device.columns if name not in HELD_ON}
    return Before(ids, tables, state.made, here, columns, state.device.read(there), state.lower.read(ids, tables))


def _take_back(state: TieredState, before: list[Before]) -> None:
    state.device.settle()
    for part in reversed(before):
        _take_part_back(state, part)


def _take_part_back(state: TieredState, part: Before) -> None:
    at, there = state.device.index.at, part.here >= 0
    state.overwrite(part.here[there], part.values)
    for name, values in part.columns.items():
        at[name][part.here[there]] = values
    rows = state.device.find(part.ids, part.tables)
    state.device.drop(rows[(rows >= 0) & ~there])
    known = part.fetched.found
    state.lower.erase(part.ids[~known], part.tables[~known])
    state.lower.write(part.ids[known], part.tables[known], part.fetched.rows)
    state.made = part.made


def _restore_part(
    state: TieredState, snapshot: Snapshot, part: slice, slots: dict[str, torch.Tensor], before: list[Before]
) -> None:
    ids, tables = (x[part].cpu().contiguous().numpy() for x in (snapshot.ids, snapshot.tables))
    marks = _history(state, snapshot, part, (ids, tables))
    rows = state.lower.host_format.complete(snapshot.weights[part].detach().cpu(), slots, marks)
    check_rows(state.spec, {slot.name: slot for slot in state.slots}, torch.from_numpy(ids), rows.weights, rows.slots)
    before.append(_before(state, ids, tables))
    here, below = state.device.find(ids, tables), state.lower.find(ids, tables).known
    new = np.flatnonzero((here < 0) & ~below)
    state.made = state.made + counted(state.spec, tables[new])
    up = new[: _past_host(state, len(new))]
    here[up] = state.device.begin_with(ids[up], tables[up], rows.pick(up), state.tick)
    there = here >= 0
    early = there & ~state.device.is_known(here)  # to the table they are new
    state.lower.write(ids[~there], tables[~there], rows.pick(~there))
    state.overwrite(here[there], rows.pick(there))
    for name, given in (("used", snapshot.stamps), ("uses", snapshot.scores)):
        anew = early if given is None else there
        if name in state.device.columns:
            state.device.index.at[name][here[anew]] = marks[name][anew]


def _past_host(state: TieredState, new: int) -> int:
    """How many of so many new rows go to the device, for host memory has no room for them, and no disk lies below it."""
    bound = state.lower.host_rows
    if state.config.disk is not None or bound is None:
        return 0
    return min(max(0, len(state.lower.host) + new - bound), state.device.room)


def _history(state: TieredState, snapshot: Snapshot, part: slice, keys: Keys) -> np.ndarray:
    """Marks of rows as the snapshot has them, and what it lacks as it was; new rows were used by one call at step 0."""
    marks = new_marks(len(keys[0]), state.device.marks)
    for name, given, new in (("used", snapshot.stamps, 0), ("uses", snapshot.scores, 1)):
        if name not in state.device.columns:
            continue
        marks[name] = new if given is None else given[part].numpy()
        if given is None:
            fetched = state.lower.read(*keys)
            marks[name][fetched.found] = fetched.rows.marks[name]
    return marks
