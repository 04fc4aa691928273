"""The packets of a version on their way to their commit, kept as they came and counted as they come.

Sizes: n ids, D dim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.errors import PacketError
from recis_core.packets.encoded_packet import EncodedPacket, open_packet
from recis_core.packets.packet_frame import Bytes
from recis_core.packets.packet_header import MAX_NUMBER, PacketHeader
from recis_core.serving.reader_bounds import ReaderBounds, row_bytes, table_bytes
from recis_core.serving.served_table import ServedTable


@dataclass
class Share:
    """What a version's packets say of one table."""

    dim: int
    served: ServedTable | None
    rows: int = 0
    packets: list[Bytes] = field(default_factory=list)  # those that hold something
    counted: int = 0  # of the packets

    def not_new(self) -> int:
        """By how many rows less the table grows than the packets not counted yet hold."""
        if self.served is None:
            return 0
        less = 0
        for data in self.packets[self.counted :]:
            packet = _opened(data)
            less += int((self.served.find(packet.ids()) >= 0).sum()) + len(_served_of(self.served, packet.erased()))
        self.counted = len(self.packets)
        return less

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(ids, rows float32 [·, D]) of all packets, some rows at a time. Raises PacketError."""
        for packet in self._opened():
            ids = packet.ids()
            for first, rows in packet.blocks():
                yield ids[first : first + len(rows)], rows

    def erased(self) -> Tensor:
        """Served ids to erase, ascending."""
        ids = np.concatenate([_served_of(self.served, packet.erased()) for packet in self._opened()] or [_NONE])
        ids.sort()
        return torch.from_numpy(ids)

    def _opened(self) -> Iterator[EncodedPacket]:
        return (_opened(data) for data in self.packets)


class WaitingVersion:
    """A version begun by `header`; `served` are the tables that it changes, none for a snapshot.

    sent: bytes that came of what is served.
    """

    def __init__(
        self, header: PacketHeader, bounds: ReaderBounds, served: Mapping[str, ServedTable], sent: int
    ) -> None:
        self.stream, self.base, self.version = header.stream, header.base, header.version
        self.count = self.sent = self._held = 0
        self.shares: dict[str, Share] = {}
        self._bounds, self._served, self._sent_before = bounds, served, sent
        self._uncounted: dict[int, Share] = {}
        self._own_bytes = 0  # that the version's rows take
        # At most, once it is applied: all rows count as new until that is too many, and are looked up then.
        self._rows_after = sum(len(table) for table in served.values())
        self._bytes_after = sum(table_bytes(len(table), table.dim) for table in served.values())

    def is_of(self, header: PacketHeader) -> bool:
        return (self.stream, self.base, self.version) == (header.stream, header.base, header.version)

    @property
    def rows(self) -> int:
        return sum(share.rows for share in self.shares.values())

    def add(self, packet: EncodedPacket, dim: int | None, sent: int) -> None:
        """The next packet of rows, of which `sent` bytes came, of a table that has `dim` columns where that is known.

        Raises:
          PacketError: it repeats an id, has another dim, or goes past a bound.
        """
        self._count(packet, sent)
        share = self._share(packet.header, dim)
        ids, erased = packet.ids(), packet.erased()
        _check_distinct(ids, packet.header.table)
        if len(ids) or len(erased):
            share.packets.append(packet.data)
        self._count_rows(share, len(ids))

    def _count(self, packet: EncodedPacket, sent: int) -> None:
        self.count, self.sent, self._held = self.count + 1, self.sent + sent, self._held + packet.nbytes
        bounds, what = self._bounds, f"version {self.version}"
        if self.count > bounds.max_packets:
            raise PacketError(f"{what} has more than max_packets = {bounds.max_packets}; publish larger packets.")
        if self._held > bounds.max_pending_bytes:
            raise PacketError(
                f"{what} takes more than max_pending_bytes = {bounds.max_pending_bytes}; raise it, or publish more often."
            )
        bounds.check_decoded(f"the packets of {what}", self._held, self.sent)

    def _share(self, header: PacketHeader, dim: int | None) -> Share:
        name, share = header.table, self.shares.get(header.table)
        wanted = share.dim if share is not None else dim
        if wanted is not None and header.dim != wanted:
            raise PacketError(f"table {name!r:.80} has dim {wanted}; got rows of {header.dim}.")
        if share is not None:
            return share
        if header.dim > self._bounds.max_dim:
            raise PacketError(
                f"table {name!r:.80} has {header.dim} columns; max_dim is {self._bounds.max_dim}. "
                "Give RowStore(max_dim=…) if they are wanted."
            )
        if len(self.shares) == self._bounds.max_tables:
            raise PacketError(
                f"version {self.version} names more than max_tables = {self._bounds.max_tables} tables. "
                "Give RowStore(max_tables=…) if they are wanted."
            )
        share = self.shares[name] = Share(header.dim, self._served.get(name))
        self._own_bytes += table_bytes(0, share.dim)
        self._bytes_after += table_bytes(0, share.dim) if share.served is None else 0
        return share

    def _count_rows(self, share: Share, rows: int) -> None:
        share.rows += rows
        self._uncounted[id(share)] = share
        self._own_bytes += rows * row_bytes(share.dim)
        self._rows_after += rows
        self._bytes_after += rows * row_bytes(share.dim)
        self._bounds.check_decoded(f"the rows of version {self.version}", self._own_bytes, self.sent)
        everything = self._sent_before + self.sent
        if self._rows_after > self._bounds.max_rows or self._bytes_after > self._bounds.decoded_limit(everything):
            self._count_exactly()
        if self._rows_after > self._bounds.max_rows:
            raise PacketError(f"version {self.version} makes more than max_rows = {self._bounds.max_rows} rows.")
        self._bounds.check_decoded(f"the tables of version {self.version}", self._bytes_after, everything)

    def _count_exactly(self) -> None:
        for share in self._uncounted.values():
            less = share.not_new()
            self._rows_after -= less
            self._bytes_after -= less * row_bytes(share.dim)
        self._uncounted.clear()


_NONE = np.zeros(0, np.int64)


def _opened(data: Bytes) -> EncodedPacket:
    return open_packet(data, max_bytes=MAX_NUMBER)


def _served_of(table: ServedTable | None, ids: Tensor) -> np.ndarray:
    """Those of the ids that a table has, each once."""
    if table is None or not len(ids):
        return _NONE
    distinct = torch.from_numpy(np.unique(ids.numpy()))
    return distinct[table.find(distinct) >= 0].numpy()


def _check_distinct(ids: Tensor, table: str) -> None:
    """Sorted in a copy: `unique` takes three."""
    ascending = np.sort(ids.numpy())
    if bool((ascending[1:] == ascending[:-1]).any()):
        raise PacketError(f"ids of table {table!r:.80} must be distinct; some are repeated.")
