"""Rows of a serving process: packets in, whole versions applied, rows out.

Sizes: n ids, D dim.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from backends import get
from backends.errors import PacketError, StreamGap
from recis_core.exchange.packet import Packet
from recis_core.exchange.packet_header import PacketHeader
from recis_core.exchange.served_table import ServedTable

if TYPE_CHECKING:
    from recis_core.nn.embedding_option import EmbeddingOption

PENDING_LIMIT = 1 << 34


class RowStore:
    """Tables as of the last whole version. A lookup, from any thread, sees a version whole, never a part of one.

    Packets of a version wait until its commit; a version that does not follow is refused. A
    snapshot, of any stream, replaces all; within a stream it must be a later one.

    Args:
      options: {table: EmbeddingOption} of the trained model, for tables with unknown="initial"; others read
        unknown ids as zeros.
      backend: "torch" or "numba"; rows are on the CPU.
      max_pending_bytes: what packets waiting for their commit may take.
    """

    def __init__(
        self,
        options: Mapping[str, EmbeddingOption] | None = None,
        *,
        backend: str = "numba",
        max_pending_bytes: int = PENDING_LIMIT,
    ) -> None:
        self._options, self._backend = dict(options or {}), get(backend)
        self._max_pending = max_pending_bytes
        self._tables: dict[str, ServedTable] = {}
        self._lock = threading.Lock()
        self._position = b"", 0
        self._drop_pending()

    def position(self) -> tuple[bytes, int]:
        """(stream, version) of what lookups see; (b"", 0) before the first."""
        return self._position

    @property
    def stream(self) -> bytes:
        return self._position[0]

    @property
    def version(self) -> int:
        return self._position[1]

    @property
    def tables(self) -> dict[str, int]:
        """{table: dim}."""
        return {name: table.dim for name, table in self._tables.items()}

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
        with self._lock:
            rows = {name: self._table(name).read(ids.reshape(-1).cpu()) for name, ids in requests.items()}
        return {name: rows[name].reshape(*ids.shape, rows[name].shape[1]) for name, ids in requests.items()}

    def ids(self, table: str) -> Tensor:
        """All ids of a table, int64 [n], ascending. Raises KeyError as lookup."""
        with self._lock:
            return self._table(table).ids()

    def _table(self, name: str) -> ServedTable:
        if name not in self._tables:
            raise KeyError(
                f"no table {name!r}; at version {self.version} there are {', '.join(self._tables) or 'none'}."
            )
        return self._tables[name]

    def apply(self, packet: Packet) -> int:
        """Take a stream's next packet, from one thread. Returns the version lookups now see.

        Raises:
          StreamGap: it does not follow; what waited of its version is dropped.
          PacketError: it is of no stream, repeats an id, or has another dim than its table.
        """
        try:
            self._follow(packet.header)
            if packet.is_commit:
                self._commit(packet.header)
            else:
                self._wait(packet)
        except BaseException:
            self._drop_pending()
            raise
        return self.version

    def _drop_pending(self) -> None:
        self._pending: list[Packet] = []
        self._pending_bytes = 0
        self._opened: PacketHeader | None = None

    def _follow(self, header: PacketHeader) -> None:
        if not header.stream:
            raise PacketError("the packet belongs to no stream; decode it and use its rows yourself.")
        if header.sequence == 0:
            self._open(header)
        opened = self._opened
        if opened is None or _version(opened) != _version(header) or header.sequence != len(self._pending):
            raise StreamGap(
                f"wanted packet {len(self._pending)} of the version begun; got packet {header.sequence} of version "
                f"{header.version}. Publish a snapshot."
            )

    def _open(self, header: PacketHeader) -> None:
        """A first packet also takes the place of a version that was never finished."""
        self._drop_pending()
        old = header.stream == self.stream and header.version <= self.version
        if old or (header.base and (header.stream, header.base) != self.position()):
            raise StreamGap(
                f"version {header.version} of stream {header.stream.hex()} builds on {header.base}; this store is at "
                f"{self.version} of {self.stream.hex() or 'none'}. Publish a snapshot."
            )
        self._opened = header

    def _wait(self, packet: Packet) -> None:
        header = packet.header
        if packet.ids.unique().numel() != header.count:
            raise PacketError(f"ids of table {packet.table!r} must be distinct; some are repeated.")
        if header.dim != self._dim(header):
            raise PacketError(f"table {packet.table!r} has dim {self._dim(header)}; got rows of {header.dim}.")
        parts = (packet.ids, packet.rows, packet.erased, *packet.slots.values())
        self._pending_bytes += sum(part.nbytes for part in parts)
        if self._pending_bytes > self._max_pending:
            raise PacketError(
                f"version {header.version} takes more than max_pending_bytes = {self._max_pending}; raise it, or publish "
                "more often."
            )
        self._pending.append(packet)

    def _dim(self, header: PacketHeader) -> int:
        """Columns its table has: here, in the version begun, by its option, or as it says itself."""
        for packet in self._pending:
            if packet.table == header.table:
                return packet.header.dim
        if header.base and header.table in self._tables:
            return self._tables[header.table].dim
        option = self._options.get(header.table)
        return option.embedding_dim if option else header.dim

    def _commit(self, header: PacketHeader) -> None:
        if header.base == 0:
            fresh: dict[str, ServedTable] = {}
            self._write(fresh)
            with self._lock:
                self._tables, self._position = fresh, (header.stream, header.version)
        else:
            self._apply_in_place(header)
        self._drop_pending()

    def _apply_in_place(self, header: PacketHeader) -> None:
        with self._lock:
            try:
                self._write(self._tables)
            except BaseException:
                # Half a version must not be read: start again from a snapshot.
                self._tables, self._position = {}, (b"", 0)
                raise
            self._position = header.stream, header.version

    def _write(self, tables: dict[str, ServedTable]) -> None:
        for packet in self._pending:
            name = packet.table
            if name not in tables:
                tables[name] = ServedTable(name, packet.header.dim, self._backend, self._options.get(name))
            tables[name].erase(packet.erased.unique())
            tables[name].write(packet.ids, packet.rows)


def _version(header: PacketHeader) -> tuple[bytes, int, int]:
    return header.stream, header.base, header.version
