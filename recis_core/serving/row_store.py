"""Rows of a serving process: packets in, whole versions applied, rows out.

Sizes: n ids, D dim.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recis_core.backends import get
from recis_core.backends.errors import PacketError, StreamGap, TableFull
from recis_core.packets.encoded_packet import EncodedPacket, open_packet
from recis_core.packets.packet import DECODED_LIMIT, Packet, encode, encode_commit
from recis_core.packets.packet_frame import Bytes
from recis_core.packets.packet_header import MAX_NUMBER, PacketHeader
from recis_core.serving.reader_bounds import ReaderBounds
from recis_core.serving.served_table import ServedTable
from recis_core.serving.served_tables import ServedTables, built, changes_of
from recis_core.serving.waiting_version import WaitingVersion
from recis_core.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from recis_core.options.embedding_option import EmbeddingOption

PENDING_LIMIT = 1 << 34
STREAMS_KEPT = 1024
_log = logging.getLogger(__name__)


class RowStore:
    """Tables as of the last whole version. A lookup, from any thread, sees a version whole, never a part of one.

    Packets of a version wait, encoded as they came, until its commit; then the version is applied,
    whole or not at all, whatever is raised. A version that does not follow is refused. A snapshot
    replaces all; within a stream it must be a later one. One of another stream, as a writer that was
    started again has, must hold tables of the names and columns served now, and `least_share` of
    their rows; and a stream that gave way to another does not come back. `expect` takes what is
    refused so.

    Memory: what waits is what was sent. Rows are counted at 4·D + 72 bytes, with their place in an
    index, before anything of that size is allocated. While a version is applied, its rows are held
    beside those served.

    Args:
      options: {table: EmbeddingOption} of the trained model, for tables with unknown="initial"; others read
        unknown ids as zeros.
      backend: "torch" or "numba"; rows are on the CPU.
      tables: {table: dim} that snapshots must have, no more and no less; None: as the first one has.
      max_bytes: what the tables may take, and the rows of a version. None: twice what was sent of them and
        64 MiB more; tables of few columns, and codecs of few bits, need more than that: say how much.
      max_pending_bytes: what packets waiting for their commit may take.
      max_packets: of a version. max_tables: of a version. max_dim: columns of a table. max_rows: of all tables.
      least_share: of the rows served, that a snapshot of another stream must have.

    Raises:
      ValueError: a bound is no number it may be.
    """

    def __init__(
        self,
        options: Mapping[str, EmbeddingOption] | None = None,
        *,
        backend: str = "numba",
        tables: Mapping[str, int] | None = None,
        max_bytes: int | None = None,
        max_pending_bytes: int = PENDING_LIMIT,
        max_packets: int = 1 << 16,
        max_tables: int = 1 << 10,
        max_dim: int = 1 << 16,
        max_rows: int = 1 << 31,
        least_share: float = 0.1,
    ) -> None:
        self._bounds = ReaderBounds(max_bytes, max_pending_bytes, max_packets, max_tables, max_dim, max_rows)
        if not 0 <= least_share <= 1:
            raise ValueError(f"least_share must lie in 0 … 1; got {least_share!r}.")
        self._options, self._backend = dict(options or {}), get(backend)
        self._expected = None if tables is None else dict(tables)
        self._least_share, self._any_next = least_share, False
        self._served = ServedTables()
        self._gave_way: deque[bytes] = deque(maxlen=STREAMS_KEPT)
        self._lock = threading.Lock()
        self._waiting: WaitingVersion | None = None

    def position(self) -> tuple[bytes, int]:
        """(stream, version) of what lookups see; (b"", 0) before the first."""
        return self._served.position

    @property
    def stream(self) -> bytes:
        return self._served.position[0]

    @property
    def version(self) -> int:
        return self._served.position[1]

    @property
    def tables(self) -> dict[str, int]:
        """{table: dim}."""
        return self._served.dims

    def lookup(self, table: str, ids: Tensor) -> Tensor:
        """Rows of ids int64 [...] -> float32 [..., D]; unknown ids read as zeros or their initial values.

        Raises:
          KeyError: there is no such table, or no version yet. TypeError: ids are not int64.
        """
        return self.lookup_all({table: ids})[table]

    def lookup_all(self, requests: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{table: rows} of {table: ids}, all of one version; as lookup."""
        for ids in requests.values():
            if not isinstance(ids, Tensor) or ids.dtype != torch.int64:
                raise TypeError(f"ids must be an int64 tensor; got {getattr(ids, 'dtype', type(ids).__name__)}.")
        with uninterrupted(), self._lock:
            rows = {name: self._of_table(name).read(name, ids.reshape(-1).cpu()) for name, ids in requests.items()}
        return {name: rows[name].reshape(*ids.shape, rows[name].shape[1]) for name, ids in requests.items()}

    def ids(self, table: str) -> Tensor:
        """All ids of a table, int64 [n], ascending. Raises KeyError as lookup."""
        with uninterrupted(), self._lock:
            return self._of_table(table).ids(table)

    def _of_table(self, name: str) -> ServedTables:
        served = self._served
        if name not in served.tables:
            raise KeyError(
                f"no table {name!r}; at version {self.version} there are {', '.join(served.tables) or 'none'}."
            )
        return served

    def expect(self, tables: Mapping[str, int] | None) -> None:
        """From now on snapshots must have these tables, {name: dim}; None: those that the next one has.

        The next snapshot is taken whatever its stream and however few its rows. Until it comes, what is served stays.
        """
        self._expected = None if tables is None else dict(tables)
        self._any_next = True

    def apply(self, packet: Packet | EncodedPacket | Bytes) -> int:
        """Take a stream's next packet, from one thread. Returns the version lookups now see.

        Bytes must not change afterwards.

        Raises:
          StreamGap: it does not follow; what waited of its version is dropped.
          PacketError: it is damaged, of no stream, repeats an id, has other tables or columns than those served, or
            goes past a bound. What is served stays.
        """
        try:
            packet, sent = _encoded(packet)
            waiting = self._follow(packet.header)
            if packet.is_commit:
                self._commit(waiting)
                self.abandon()
            else:
                waiting.add(packet, self._dim(packet.header), sent)
        except BaseException as error:
            self.abandon()
            if isinstance(error, PacketError) or not _is_shortage(error):
                raise
            raise PacketError(
                f"this process has no room for what came: {error!r}. What is served stays; give it more memory, or "
                "the store bounds that fit it."
            ) from error
        return self.version

    def abandon(self) -> None:
        """Drop the packets that wait for a commit that will not come, as when a writer's connection is lost."""
        self._waiting = None

    def _follow(self, header: PacketHeader) -> WaitingVersion:
        if not header.stream:
            raise PacketError("the packet belongs to no stream; decode it and use its rows yourself.")
        waiting = self._waiting
        if header.sequence == 0 and not (waiting is not None and waiting.count and waiting.is_of(header)):
            waiting = self._waiting = self._opened(header)
        if waiting is None or not waiting.is_of(header) or header.sequence != waiting.count:
            raise StreamGap(
                f"wanted packet {waiting.count if waiting else 0} of the version begun; got packet {header.sequence} of "
                f"version {header.version}. Publish a snapshot."
            )
        return waiting

    def _opened(self, header: PacketHeader) -> WaitingVersion:
        """A first packet also takes the place of another version that was never finished."""
        old = header.stream == self.stream and header.version <= self.version
        if old or (header.base and (header.stream, header.base) != self.position()):
            raise StreamGap(
                f"version {header.version} of stream {header.stream.hex()} builds on {header.base}; this store is at "
                f"{self.version} of {self.stream.hex() or 'none'}. Publish a snapshot."
            )
        if header.stream in self._gave_way and not self._any_next:
            raise StreamGap(
                f"stream {header.stream.hex()} gave way to {self.stream.hex()} and does not come back: its packets are "
                "old, or two writers take turns. RowStore.expect(None) takes it all the same."
            )
        changed = self._served if header.base else ServedTables()
        return WaitingVersion(header, self._bounds, changed.tables, changed.sent)

    def _dim(self, header: PacketHeader) -> int | None:
        """Columns its table must have: as those served, as told, or as its option says."""
        name, expected = header.table, self.tables if header.base else self._wanted()
        if expected is not None and name not in expected:
            raise PacketError(
                f"version {header.version} has a table {name!r:.80} that is not expected; there are "
                f"{_listed(expected)}. RowStore.expect({{table: dim}}) takes other tables."
            )
        option = self._options.get(name)
        return expected[name] if expected is not None else option.embedding_dim if option else None

    def _wanted(self) -> Mapping[str, int] | None:
        """{table: dim} that a snapshot must have; None: any."""
        if self._expected is not None:
            return self._expected
        return self.tables if self.version and not self._any_next else None

    def _commit(self, waiting: WaitingVersion) -> None:
        self._finish_changes()
        if waiting.base:
            self._change(waiting)
        else:
            self._replace(waiting)

    def _replace(self, waiting: WaitingVersion) -> None:
        self._check_plausible(waiting)
        tables = built(waiting.shares, self._make)
        served = ServedTables(tables, (waiting.stream, waiting.version), waiting.sent)
        with uninterrupted(), self._lock:
            if self.stream not in (b"", waiting.stream):
                self._gave_way.append(self.stream)
            self._served, self._any_next = served, False

    def _check_plausible(self, waiting: WaitingVersion) -> None:
        expected = self._wanted()
        if expected is not None and (missing := sorted(expected.keys() - waiting.shares.keys())):
            raise PacketError(
                f"version {waiting.version}, a snapshot, lacks tables {_listed(missing)}; it has {_listed(waiting.shares)}. "
                "RowStore.expect({table: dim}) takes other tables."
            )
        served = self._served.rows
        if waiting.stream != self.stream and waiting.rows < self._least_share * served and not self._any_next:
            raise PacketError(
                f"a snapshot of another stream has {waiting.rows} rows, where {served} are served: less than "
                f"least_share = {self._least_share}. RowStore.expect(None) takes it all the same."
            )

    def _change(self, waiting: WaitingVersion) -> None:
        """Readable beside the tables first, by one assignment; then written into them."""
        changes = changes_of(waiting.shares)
        served = ServedTables(
            self._served.tables, (waiting.stream, waiting.version), self._served.sent + waiting.sent, changes
        )
        with uninterrupted(), self._lock:
            self._served = served
        try:
            self._finish_changes()
        except Exception as error:
            # Lookups see the version all the same; the next commit tries again, and says so if it fails.
            _log.warning("version %d is served, but not yet written into the tables: %r", waiting.version, error)

    def _finish_changes(self) -> None:
        """Write what is readable beside the tables into them, some rows at a time: lookups need not wait for all."""
        served = self._served
        for name, change in served.changes.items():
            for step in change.steps(served.tables[name]):
                with uninterrupted(), self._lock:
                    step()
        with uninterrupted(), self._lock:
            self._served = replace(served, changes={})

    def _make(self, name: str, dim: int, rows: int) -> ServedTable:
        return ServedTable(name, dim, self._backend, self._options.get(name), rows)


def _encoded(packet: Packet | EncodedPacket | Bytes) -> tuple[EncodedPacket, int]:
    """(the packet, how many bytes of it came). One that was decoded is encoded as it is."""
    if isinstance(packet, EncodedPacket):
        return packet, packet.nbytes
    if not isinstance(packet, Packet):
        opened = open_packet(packet, max_bytes=DECODED_LIMIT)
        return opened, opened.nbytes
    header = packet.header
    place: dict[str, Any] = {
        "stream": header.stream,
        "base": header.base,
        "version": header.version,
        "sequence": header.sequence,
    }
    if packet.is_commit:
        data = encode_commit(**place) if header.stream else b""
    else:
        data = encode(table=packet.table, ids=packet.ids, rows=packet.rows, erased=packet.erased, **place)
    opened = open_packet(data, max_bytes=MAX_NUMBER)
    return opened, min(opened.nbytes, 512 + sum(section.length for section in header.sections))


def _is_shortage(error: BaseException) -> bool:
    """Of memory, as Python, mmap and torch tell of it, or of a table's places."""
    if isinstance(error, MemoryError | TableFull) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(told in str(error) for told in ("allocate memory", "bad_alloc"))


def _listed(tables: Iterable[str]) -> str:
    return ", ".join(f"{name:.40}" for name in islice(tables, 10)) or "none"
