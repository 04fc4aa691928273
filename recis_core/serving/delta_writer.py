"""Publishes what training changed in tables, version by version.

Sizes: n ids, D dim.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor

from recis_core.backends.errors import PacketError, RecisError
from recis_core.packets.packet import encode, encode_commit
from recis_core.packets.packet_codec import ID_CODECS, ROW_CODECS, number_of
from recis_core.packets.packet_header import STREAM_BYTES
from recis_core.table.changed_ids import ChangedIds
from recis_core.table.named_table import NamedTable

PACKET_BYTES = 1 << 23
Position = tuple[bytes, int]  # (stream, version); (b"", 0) is nothing
Part = tuple[str, Tensor, Tensor, Tensor]  # table, ids, rows, erased ids


class Named(Protocol):
    """A HashTable, or what else has one logical table's rows on this rank."""

    named: NamedTable


class Sink(Protocol):
    """Where versions go. The writer asks `holds` before each `send`."""

    def holds(self) -> Position:
        """What the other side has. Raises OSError or PacketError where it cannot be reached."""
        ...

    def send(self, frames: Iterable[bytes]) -> None:
        """One version's packets, its commit last. Raises OSError; the version is then not there, or not whole."""
        ...


class DeltaWriter:
    """Watches tables from now on, and publishes the rows that changed.

    A sink that holds the writer's last version gets what changed since; any other gets all rows,
    as one version like any other. So does each after a load that put another state in a table's
    place. Publish between steps: what is read is the tables as they are.
    On several ranks each has a writer, a stream and a store for its own shard.

    Args:
      tables: {name: HashTable}, as sparse optimizers take them.
      codec: of rows, one for all or {table: codec}. id_codec: raw | packed.

    Raises:
      TypeError, ValueError: tables is no such dict, a codec is unknown, or a table is cut by columns.
    """

    def __init__(
        self, tables: Mapping[str, Named], *, codec: str | Mapping[str, str] = "fp32", id_codec: str = "raw"
    ) -> None:
        if not isinstance(tables, Mapping) or not tables:
            raise TypeError(f"tables must be a dict {{name: HashTable}} of at least one; got {tables!r:.80}.")
        self._tables = {name: given.named for name, given in tables.items()}
        cut = [name for name, named in self._tables.items() if named.table.columns != (0, named.dim)]
        if cut:
            raise ValueError(
                f"tables {cut} are cut by columns, so that no rank has a whole row to publish. "
                'Use sharding="row": then each rank publishes the rows that live on it.'
            )
        self._codecs = dict.fromkeys(tables, codec) if isinstance(codec, str) else dict(codec)
        if self._codecs.keys() != tables.keys():
            raise ValueError(f"codec must name each of {', '.join(tables)}; got {', '.join(self._codecs)}.")
        for chosen in self._codecs.values():
            number_of(chosen, ROW_CODECS)
        number_of(id_codec, ID_CODECS)
        self._id_codec = id_codec
        self.stream, self.version = os.urandom(STREAM_BYTES), 0
        self._changed = {named.table: ChangedIds(named.table) for named in self._tables.values()}

    def publish(self, *sinks: Sink, snapshot: bool = False) -> int:
        """Send one version to each sink; snapshot=True sends all rows. Returns the version.

        Raises:
          OSError, PacketError: sinks failed, of which the first error is raised when all were tried.
            The version counts; a sink that missed it is sent all rows with the next one.
          RecisError: the writer is closed.
        """
        if not self._changed:
            raise RecisError("this DeltaWriter is closed; make a new one, which starts with all rows.")
        base, self.version = self.version, self.version + 1
        changed = self._take()
        failures = [error for sink in sinks if (error := self._try(sink, base, changed, snapshot))]
        if failures:
            raise failures[0]
        return self.version

    def _try(self, sink: Sink, base: int, changed: dict[str, Tensor] | None, snapshot: bool) -> Exception | None:
        try:
            follows = sink.holds() == (self.stream, base) and base > 0
            if follows and changed is not None and not snapshot:
                sink.send(self._frames(base, self._changed_rows(changed)))
            else:
                sink.send(self._frames(0, self._all_rows()))
        except (OSError, PacketError) as error:
            return error
        return None

    def _take(self) -> dict[str, Tensor] | None:
        """{table: ids that changed}; None where all rows of a table may have."""
        taken = {physical: changed.take() for physical, changed in self._changed.items()}
        ids = {name: (taken[named.table], named.ordinal) for name, named in self._tables.items()}
        if any(noted is None for noted, _ in ids.values()):
            return None
        return {name: noted[ordinal] for name, (noted, ordinal) in ids.items() if noted and ordinal in noted}

    def _frames(self, base: int, parts: Iterable[Part]) -> Iterator[bytes]:
        place: dict[str, Any] = {"stream": self.stream, "base": base, "version": self.version}
        sequence = 0
        for name, ids, rows, erased in parts:
            codec = self._codecs[name]
            yield encode(
                table=name, ids=ids, rows=rows, erased=erased, codec=codec, id_codec=self._id_codec,
                sequence=sequence, **place,
            )  # fmt: skip
            sequence += 1
        yield encode_commit(sequence=sequence, **place)

    def _changed_rows(self, changed: dict[str, Tensor]) -> Iterator[Part]:
        for name, ids in changed.items():
            named = self._tables[name]
            for some in ids.split(_rows_per_packet(named)):
                rows, known = (x.cpu() for x in named.lookup(some.to(named.table.device), "zeros"))
                yield name, some[known], rows[known], some[~known]

    def _all_rows(self) -> Iterator[Part]:
        for table in self._changed:
            whole = table.export()
            for name, named in self._tables.items():
                if named.table is table:
                    at = (whole.tables == named.ordinal).nonzero()[:, 0]
                    # A table without rows, too, has its packet: a snapshot names all tables.
                    for some in at.split(_rows_per_packet(named)):
                        yield name, whole.ids[some], whole.weights[some].float(), whole.ids[:0]

    def close(self) -> None:
        """Stop watching. Idempotent."""
        for changed in self._changed.values():
            changed.close()
        self._changed = {}

    def __enter__(self) -> DeltaWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _rows_per_packet(named: NamedTable) -> int:
    return max(1, PACKET_BYTES // (4 * named.dim))
