"""All rows of a tiered table out and in, wherever they are; or the marks alone.

Sizes: n rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from recis_core.backends import Snapshot
from recis_core.backends.records import Marks
from recis_core.backends.row_checks import check_rows
from recis_core.table.tiers.row_format import Rows, new_marks

if TYPE_CHECKING:
    from recis_core.table.tiers.device_tier import DeviceTier
    from recis_core.table.tiers.key_counts import KeyCounts
    from recis_core.table.tiers.lower_tiers import Fetched, LowerTiers
    from recis_core.table.tiers.turn import Turn

AT_ONCE = 1 << 16
HELD_ON = ("held", "next_use")  # columns that stay as planned calls have them


def export(device: DeviceTier, lower: LowerTiers) -> Snapshot:
    """Ascending by (uid, signed id), as of other tables; without a placement, for rows move."""
    here = device.known_rows()
    parts = [(*device.index.keys(here), device.read(here))]
    for ids, tables, rows in lower.scan():
        only = np.flatnonzero(device.find(ids, tables) < 0)
        parts.append((ids[only], tables[only], rows.pick(only)))
    ids, tables = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    rows = Rows(
        torch.cat([part[2].weights for part in parts]),
        {slot.name: torch.cat([part[2].slots[slot.name] for part in parts]) for slot in device.slots},
        np.concatenate([part[2].marks for part in parts]),
    )
    order = _order(device, ids, tables)
    return _snapshot(device, ids[order], tables[order], rows.pick(order))


def snapshots(device: DeviceTier, lower: LowerTiers, most: int) -> Iterator[Snapshot]:
    """All rows in parts of at most `most`: those on the device first, then below it."""
    here = device.known_rows()
    for beg in range(0, len(here), most):
        some = here[beg : beg + most]
        yield _snapshot(device, *device.index.keys(some), device.read(some))
    for ids, tables, rows in lower.scan(most):
        only = np.flatnonzero(device.find_known(ids, tables) < 0)
        yield _snapshot(device, ids[only], tables[only], rows.pick(only))


def rows_of(device: DeviceTier, lower: LowerTiers, ids: np.ndarray, tables: np.ndarray) -> Snapshot:
    """Of unique keys those that have a row: on the device, then below it."""
    at = device.find_known(ids, tables)
    here, away = np.flatnonzero(at >= 0), np.flatnonzero(at < 0)
    fetched = lower.read(ids[away], tables[away])
    order = np.concatenate([here, away[fetched.found]])
    return _snapshot(device, ids[order], tables[order], device.read(at[here]).followed_by(fetched.rows))


def _snapshot(device: DeviceTier, ids: np.ndarray, tables: np.ndarray, rows: Rows) -> Snapshot:
    stamps = torch.from_numpy(rows.marks["used"].copy())
    scores = torch.from_numpy(rows.marks["uses"].copy()) if device.counts else None
    keys = torch.from_numpy(ids), torch.from_numpy(tables)
    return Snapshot(*keys, rows.weights, rows.slots, stamps=stamps, scores=scores)


def marks(device: DeviceTier, lower: LowerTiers) -> tuple[Marks, np.ndarray]:
    """Ascending as in `export`, with row numbers on the device, -1 for others; and which those are, bool [n].

    Scores are as TableSpec.score has them: those of the tiers' policy are not the table's.
    """
    here = device.known_rows()
    parts = [(*device.index.keys(here), device.scores[here], device.index.at["used"][here])]
    for ids, tables, kept in lower.scan_marks():
        only = device.find(ids, tables) < 0
        scores = kept["uses" if device.counts else "used"]
        parts.append((ids[only], tables[only], scores[only], kept["used"][only]))
    ids, tables, scores, stamps = (np.concatenate([part[k] for part in parts]) for k in range(4))
    order = _order(device, ids, tables)
    ids, tables, scores, stamps = (x[order] for x in (ids, tables, scores, stamps))
    rows = device.find(ids, tables).astype(np.int32)
    tensors = (torch.from_numpy(x) for x in (ids, tables, rows, scores, stamps))
    return Marks(*tensors), rows < 0


def _order(device: DeviceTier, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
    return np.lexsort((ids, np.array(device.table_spec.uids, np.uint32)[tables]))


@dataclass
class Before:
    """Some rows as they were, wherever they were."""

    ids: np.ndarray
    tables: np.ndarray
    made: np.ndarray
    here: np.ndarray  # int32 [n], rows on the device, -1 for none
    columns: dict[str, np.ndarray]  # of those there
    values: Rows
    fetched: Fetched  # what lay below


def restore(
    device: DeviceTier, lower: LowerTiers, counts: KeyCounts, lock: Turn, snapshot: Snapshot, tick: int
) -> None:
    """Write rows: those on the device there, others below it; those that find no room below go to the device.

    All rows or none: on an exception the former rows, kept in memory until then, are written back.
    """
    writing = _Restoring(device, lower, counts, tick)
    try:
        for beg in range(0, len(snapshot.ids), AT_ONCE):
            writing.write(snapshot, slice(beg, beg + AT_ONCE))
    except BaseException:
        lock.whole(writing.take_back)
        raise


class _Restoring:
    """A snapshot on its way, and the rows that its parts so far replaced."""

    def __init__(self, device: DeviceTier, lower: LowerTiers, counts: KeyCounts, tick: int) -> None:
        self.device, self.lower, self.counts, self.tick = device, lower, counts, tick
        self.before: list[Before] = []

    def write(self, snapshot: Snapshot, part: slice) -> None:
        device, lower = self.device, self.lower
        ids, tables = (x[part].cpu().contiguous().numpy() for x in (snapshot.ids, snapshot.tables))
        specs = {slot.name: slot for slot in device.slots}
        slots = {name: values[part].detach().cpu().float() for name, values in snapshot.slots.items() if name in specs}
        marks = self._history(snapshot, part, ids, tables)
        rows = lower.host_format.complete(snapshot.weights[part].detach().cpu(), slots, marks)
        check_rows(device.table_spec, specs, torch.from_numpy(ids), rows.weights, rows.slots)
        self.before.append(self._as_they_are(ids, tables))
        here, below = device.find(ids, tables), lower.find(ids, tables).known
        new = np.flatnonzero((here < 0) & ~below)
        self.counts.came(tables[new])
        up = new[: self._past_host(len(new))]
        here[up] = device.begin_with(ids[up], tables[up], rows.pick(up), self.tick)
        there = here >= 0
        early = there & ~device.is_known(here)  # new rows of the table
        lower.write(ids[~there], tables[~there], rows.pick(~there))
        device.overwrite(here[there], rows.pick(there))
        for name, given in (("used", snapshot.stamps), ("uses", snapshot.scores)):
            anew = early if given is None else there
            if name in device.columns:
                device.index.at[name][here[anew]] = marks[name][anew]

    def _history(self, snapshot: Snapshot, part: slice, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """Marks as the snapshot has them; what it lacks stays as it is, or is one use at step 0 of a new row."""
        marks = new_marks(len(ids), self.device.marks)
        for name, given, new in (("used", snapshot.stamps, 0), ("uses", snapshot.scores, 1)):
            if name not in self.device.columns:
                continue
            marks[name] = new if given is None else given[part].numpy()
            if given is None:
                fetched = self.lower.read(ids, tables)
                marks[name][fetched.found] = fetched.rows.marks[name]
        return marks

    def _as_they_are(self, ids: np.ndarray, tables: np.ndarray) -> Before:
        here = self.device.find(ids, tables)
        there = here[here >= 0]
        columns = {name: self.device.index.at[name][there] for name in self.device.columns if name not in HELD_ON}
        values, fetched = self.device.read(there), self.lower.read(ids, tables)
        return Before(ids, tables, self.counts.made, here, columns, values, fetched)

    def _past_host(self, new: int) -> int:
        """How many of so many new rows go to the device, because host memory is full and there is no disk."""
        bound = self.lower.host_rows
        if self.lower.disk is not None or bound is None:
            return 0
        return min(max(0, len(self.lower.host) + new - bound), self.device.room)

    def take_back(self) -> None:
        """May be called again from its beginning."""
        self.device.settle()
        for part in reversed(self.before):
            self._take_part_back(part)

    def _take_part_back(self, part: Before) -> None:
        at, there = self.device.index.at, part.here >= 0
        self.device.overwrite(part.here[there], part.values)
        for name, values in part.columns.items():
            at[name][part.here[there]] = values
        rows = self.device.find(part.ids, part.tables)
        self.device.drop(rows[(rows >= 0) & ~there])
        known = part.fetched.found
        self.lower.erase(part.ids[~known], part.tables[~known])
        self.lower.write(part.ids[known], part.tables[known], part.fetched.rows)
        self.counts.made = part.made
