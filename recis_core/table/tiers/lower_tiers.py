"""What lies below the device: host memory, and below that the disk.

Rows are written to host memory; when that is full, rows of lowest score move on to the disk. Where both have a row, host
memory has the newer one.

Sizes: n keys of a call, at most one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from recis_core.backends.errors import StorageFull, TableFull
from recis_core.table.tier_store import TierStore
from recis_core.table.tiers.cache_stats import IN_HOST, NOWHERE, ON_DISK, CacheStats
from recis_core.table.tiers.deferred_marks import DeferredMarks
from recis_core.table.tiers.host_store import HostStore
from recis_core.table.tiers.key_index import NO_BOUND
from recis_core.table.tiers.planned_calls import Early
from recis_core.table.tiers.row_format import RowFormat, Rows
from recis_core.uninterrupted import uninterrupted

T = TypeVar("T")
AT_ONCE = 16  # of a full host tier, one part in so many leaves at a time
FLUSHED_AFTER = 256 << 20  # bytes written to scratch
DEFERRED_ROWS = 1 << 18  # whose marks may wait to be written, and more of a large table:
DEFERRED_SHARE = 16  # one in so many of its rows


@dataclass
class Places:
    """Where keys lie below the device: until something is written there, and on disk until that compacts."""

    ids: np.ndarray  # int64 [n]
    tables: np.ndarray  # int32 [n]
    host: np.ndarray  # int32 [n], row numbers in host memory, -1 for none
    disk: np.ndarray  # int64 [n], on disk, of keys that are not in host memory; -1 for none

    @property
    def known(self) -> np.ndarray:
        """bool [n]"""
        return np.asarray((self.host >= 0) | (self.disk >= 0))

    @property
    def tiers(self) -> np.ndarray:
        """int64 [n], as CacheStats.count_keys has it: IN_HOST, ON_DISK or NOWHERE."""
        return np.where(self.host >= 0, IN_HOST, np.where(self.disk >= 0, ON_DISK, NOWHERE))

    def pick(self, which: np.ndarray | slice) -> Places:
        return Places(self.ids[which], self.tables[which], self.host[which], self.disk[which])


NOWHERE_BELOW = Places(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))


@dataclass
class Fetched:
    """Rows that were found, in the order of their keys."""

    found: np.ndarray  # bool [n]
    rows: Rows  # of those found


class LowerTiers:
    """host_rows: rows in host memory at most; None for no bound. disk: None where there is none.

    scratch: whether the disk's rows end with the process; then the disk may be flushed at any time.
    """

    def __init__(
        self,
        host_format: RowFormat,
        disk_format: RowFormat,
        host_rows: int | None,
        disk: TierStore | None,
        stats: CacheStats,
    ) -> None:
        self.host_format, self.disk_format, self.host_rows = host_format, disk_format, host_rows
        self.host = HostStore(host_format.cuts, NO_BOUND if host_rows is None else host_rows)
        self.disk, self.stats, self.scratch = disk, stats, False
        self._deferred = DeferredMarks()
        self._unflushed = 0  # bytes
        self._owes = False  # whether host memory may be past its bound, because the disk was full

    def find(self, ids: np.ndarray, tables: np.ndarray) -> Places:
        host, disk = self.host.rows_of(ids, tables), np.full(len(ids), -1, np.int64)
        below = np.flatnonzero(host < 0) if self.disk is not None else ()
        if self.disk is not None and len(below):
            disk[below] = self.disk.find(ids[below], tables[below])
        return Places(ids, tables, host, disk)

    def read(self, ids: np.ndarray, tables: np.ndarray) -> Fetched:
        return self.read_at(self.find(ids, tables))

    def read_at(self, places: Places, early: Early | None = None) -> Fetched:
        """early: rows of these keys that were read before; used where they are still the newest."""
        fetched = self._read(places, early)
        if self._deferred.waiting:
            self._deferred.add_to(places.ids[fetched.found], places.tables[fetched.found], fetched.rows.marks)
        return fetched

    def _read(self, places: Places, early: Early | None) -> Fetched:
        in_host, on_disk = np.flatnonzero(places.host >= 0), np.flatnonzero(places.disk >= 0)
        rows = self.host_format.decode(self.host.read_at(places.host[in_host]))
        self.stats.read("host", len(in_host), self.host_format.row_bytes)
        if self.disk is None or not len(on_disk):
            return Fetched(places.host >= 0, rows)
        found, packed = self._read_disk(self.disk, places.pick(on_disk), early and early.pick(on_disk))
        self.stats.read("disk", len(on_disk), self.disk_format.row_bytes)
        if not found.all():
            on_disk, packed = on_disk[found], packed[found]
        from_disk = self.disk_format.unpack(packed)
        here = places.host >= 0
        here[on_disk] = True
        if not len(in_host):
            return Fetched(here, from_disk)
        order = np.argsort(np.concatenate([in_host, on_disk]))
        return Fetched(here, rows.followed_by(from_disk).pick(order))

    def _read_disk(self, disk: TierStore, places: Places, early: Early | None) -> tuple[np.ndarray, np.ndarray]:
        if early is None:
            return disk.read(places.ids, places.tables)
        fresh = early.places == places.disk
        found, packed = np.ones(len(fresh), bool), np.empty((len(fresh), self.disk_format.row_bytes), np.uint8)
        packed[fresh] = early.packed[early.at[fresh]]
        late = np.flatnonzero(~fresh)
        if len(late):
            found[late], packed[late] = disk.read(places.ids[late], places.tables[late])
        self.stats.count("read_early", int(fresh.sum()))
        return found, packed

    def write(self, ids: np.ndarray, tables: np.ndarray, rows: Rows) -> None:
        """Write rows back. A full tier never stops this half way: rows that find no room below stay in host memory past its
        bound, and `settle` raises before the next call. Any other exception leaves some rows as they were.
        """
        at, left_ids, left_tables, left = self.host.rows_of(ids, tables), ids, tables, rows
        if self.host_rows is not None and not self._owes:
            try:
                at, left_ids, left_tables, left = self._past(at, ids, tables, rows)
            except (TableFull, StorageFull):
                self._owes, at = True, self.host.rows_of(ids, tables)  # some rows may have moved on before it failed
        if len(at):
            self.host.write_at(at, left_ids, left_tables, self.host_format.encode(left), left.marks["score"])
            self.stats.wrote("host", len(at), self.host_format.row_bytes)
        if self._deferred.waiting:
            self._deferred.drop(ids, tables)  # last: until then a row's marks may be the old ones

    def used(
        self,
        ids: np.ndarray,
        tables: np.ndarray,
        step: np.ndarray | int,
        uses: np.ndarray | int = 1,
        scores: np.ndarray | None = None,
    ) -> None:
        """Rows were used here or on the device, and are not written again for it. Arguments as of DeferredMarks.add."""
        if not len(ids):
            return
        if scores is not None:
            at = self.host.rows_of(ids, tables)
            self.host.index.at["score"][at[at >= 0]] = scores[at >= 0]
        self._deferred.add(ids, tables, step, uses, scores)

    @property
    def uses_added(self) -> int:
        """How often `used` was completed."""
        return self._deferred.added

    def write_deferred_if_many(self) -> None:
        """Write the marks that wait, if they are too many."""
        if self._deferred.rows <= DEFERRED_ROWS:
            return
        rows = len(self.host) + (0 if self.disk is None else len(self.disk))
        if self._deferred.rows > rows // DEFERRED_SHARE:
            with suppress(TableFull, StorageFull, MemoryError):  # they wait on, and the next call tries again
                self._write_deferred()

    def _write_deferred(self) -> None:
        """Write the marks that wait, each where its row is."""
        for ids, tables in self._deferred.parts():
            at = self.host.rows_of(ids, tables)
            here = at >= 0
            self._write_marks_in_host(at[here], ids[here], tables[here])
            if self.disk is not None and not here.all():
                self._write_marks_on_disk(self.disk, ids[~here], tables[~here])
            self._deferred.drop(ids, tables)  # also of rows that are gone

    def _write_marks_in_host(self, at: np.ndarray, ids: np.ndarray, tables: np.ndarray) -> None:
        parts = self.host.read_at(at)
        before = parts[-1].copy()
        marks = parts[-1].view(self.host_format.marks_dtype).reshape(-1)
        self._deferred.add_to(ids, tables, marks)
        self._write_instead(
            ids, tables,
            lambda: self.host.write_at(at, ids, tables, parts, marks["score"]),
            lambda: self.host.write_at(at, ids, tables, (*parts[:-1], before), marks["score"]),
        )  # fmt: skip

    def _write_marks_on_disk(self, disk: TierStore, ids: np.ndarray, tables: np.ndarray) -> None:
        found, packed = disk.read(ids, tables)
        ids, tables, packed = ids[found], tables[found], packed[found]
        before, marks = packed.copy(), self.disk_format.marks(packed)
        self._deferred.add_to(ids, tables, marks)
        self.disk_format.put_marks(packed, marks)
        self._write_instead(
            ids, tables,
            lambda: self._write_disk(ids, tables, None, packed),
            lambda: self._write_disk(ids, tables, None, before),
        )  # fmt: skip

    def _write_instead(
        self, ids: np.ndarray, tables: np.ndarray, write: Callable[[], None], take_back: Callable[[], None]
    ) -> None:
        """Write marks and forget what waited: both, or neither, for else uses would be lost or count twice."""
        try:
            write()
            self._deferred.drop(ids, tables)
        except BaseException:
            if self._deferred.waits_for(ids, tables):
                take_back()
            raise

    def start_call(self) -> None:
        self.settle()
        self.write_deferred_if_many()

    def settle(self) -> None:
        """Bring host memory back within its bound.

        Raises:
          TableFull: there is no disk. StorageFull: the disk is full. Nothing was lost; call again once there is room.
        """
        if not self._owes:
            return
        over = 0 if self.host_rows is None else len(self.host) - self.host_rows
        if over > 0:
            self._spill(over)
        self._owes = False

    def _past(
        self, at: np.ndarray, ids: np.ndarray, tables: np.ndarray, rows: Rows
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Rows]:
        """Make room for rows; those that exceed all of host memory go to the disk. The others, and where they are."""
        bound = self.host_rows or 0
        missing = len(self.host) + int((at < 0).sum()) - bound
        if missing > 0 and len(self.host):
            self._spill(min(len(self.host), max(missing, bound // AT_ONCE)))
            at = self.host.rows_of(ids, tables)
        new = np.flatnonzero(at < 0)
        over = len(self.host) + len(new) - bound
        if over <= 0:
            return at, ids, tables, rows
        past = np.zeros(len(ids), bool)
        past[new[np.argsort(rows.marks["score"][new], kind="stable")[:over]]] = True
        self._write_disk(ids[past], tables[past], rows.pick(past))
        return at[~past], ids[~past], tables[~past], rows.pick(~past)

    def _spill(self, count: int) -> None:
        required(self.disk, self.host_rows)
        at = self.host.lowest(count)
        dirty = at[~self.host.index.at["clean"][at]]
        ids, tables, packed = self.host.take(dirty)
        if len(ids):
            self._write_disk(ids, tables, None if self._alike else self.host_format.unpack(packed), packed)
        self.host.drop(at)
        self.stats.count("spilled", len(at))

    @property
    def _alike(self) -> bool:
        return self.host_format.same_bytes(self.disk_format)

    def _write_disk(
        self, ids: np.ndarray, tables: np.ndarray, rows: Rows | None, packed: np.ndarray | None = None
    ) -> None:
        disk = required(self.disk, self.host_rows)
        if rows is not None:
            packed = self.disk_format.pack(rows)
        self._with_room(disk.write, ids, tables, np.ascontiguousarray(packed))
        self.stats.wrote("disk", len(ids), self.disk_format.row_bytes)
        self._unflushed += len(ids) * self.disk_format.row_bytes
        if self.scratch and self._unflushed > FLUSHED_AFTER:  # a flush deletes files that were compacted
            self._unflushed = 0
            with suppress(StorageFull, MemoryError):  # the rows are written
                disk.flush()

    def _with_room(self, call: Callable[..., T], *keys_and_rows: np.ndarray) -> T:
        """A write or erase on disk; where scratch is full, once more after a flush, which deletes files that were compacted.

        A kept disk is not flushed here: its compacted files hold what the last flush left.
        """
        try:
            return call(*keys_and_rows)
        except StorageFull as error:
            disk = required(self.disk, self.host_rows)
            waiting = disk.freed_by_flush()
            if not waiting:
                raise
            if not self.scratch:
                raise StorageFull(
                    f"{error} Files of {waiting:,} bytes were compacted, and go with the next engine.flush(), which first "
                    "needs room for what is in memory; flush more often, and fewer wait."
                ) from error
            with suppress(StorageFull):
                disk.flush()
        return call(*keys_and_rows)

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> None:
        if self.disk is not None:
            self._with_room(self.disk.erase, ids, tables)
        self.host.erase(ids, tables)
        if self._deferred.waiting:
            self._deferred.drop(ids, tables)

    def scan(self, chunk: int = 65_536) -> Iterator[tuple[np.ndarray, np.ndarray, Rows]]:
        """All rows below the device, each once."""
        for ids, tables, packed, row_format in self._scan(chunk):
            rows = row_format.unpack(packed)
            self._deferred.add_to(ids, tables, rows.marks)
            yield ids, tables, rows

    def scan_marks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """As `scan`, of marks alone."""
        for ids, tables, packed, row_format in self._scan(65_536):
            marks = row_format.marks(packed)
            self._deferred.add_to(ids, tables, marks)
            yield ids, tables, marks

    def _scan(self, chunk: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, RowFormat]]:
        for ids, tables, packed in self.host.scan(chunk):
            yield ids, tables, packed, self.host_format
        for ids, tables, packed in self.disk.scan(chunk) if self.disk is not None else ():
            only = np.flatnonzero(self.host.rows_of(ids, tables) < 0)
            if len(only):
                yield ids[only], tables[only], packed[only], self.disk_format

    def known_rows(self) -> int:
        """Keys, each counted once."""
        if self.disk is None:
            return len(self.host)
        ids, tables = self.host.index.keys(self.host.index.all_rows())
        return len(self.disk) + int((self.disk.find(ids, tables) < 0).sum())

    def flush(self, numbers: Mapping[str, int]) -> None:
        """Write all of host memory to disk too, and flush it with these numbers."""
        if self.disk is None:
            return
        with uninterrupted():
            self._write_deferred()
        at = self.host.index.all_rows()
        at = at[~self.host.index.at["clean"][at]]
        for beg in range(0, len(at), 65_536):
            with uninterrupted():
                self._flush_part(at[beg : beg + 65_536])
        with uninterrupted():
            self.disk.flush(numbers)

    def _flush_part(self, at: np.ndarray) -> None:
        ids, tables, packed = self.host.take(at)
        self._write_disk(ids, tables, None if self._alike else self.host_format.unpack(packed), packed)
        self.host.index.at["clean"][at] = True


def required(disk: TierStore | None, host_rows: int | None) -> TierStore:
    if disk is None:
        raise TableFull(
            f"host memory holds {host_rows} rows at most (CacheConfig.host_bytes or host_rows), is full, and no disk lies "
            "below it. Raise it, or give CacheConfig(disk=DIR)."
        )
    return disk
