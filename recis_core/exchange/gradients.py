"""Gradients to their owners: once an optimizer step, all tables in one message a rank.

    a table:  ids packed, or positions packed, or nothing | rows as wire.py lays them | occurrences int32, by_id only

Where all gradients of a table are of its last forward, sender and owner both still know which keys that asked for:
then no id travels, and of a selection only its positions do.

Sizes: W ranks, P storages, T logical tables, U unique keys, K sent rows, D dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recis_core.backends.records import EncodedRows
from recis_core.backends.spec import RowCodec
from recis_core.exchange import wire
from recis_core.exchange.adaptive import with_zeros
from recis_core.exchange.keys import SortedKeys, ordinals_of
from recis_core.exchange.local_gradient import LocalGradient
from recis_core.exchange.sharded_table import ShardedTable

if TYPE_CHECKING:
    from recis_core.exchange.exchange import Exchange

NOTHING, ALL, SOME, BY_ID = range(4)  # how keys are said
COUNTS = 5  # a table: how keys are said, rows, bytes of keys, exact rows, bytes of tail; then rows by logical table


@dataclass(frozen=True)
class Parcel:
    """One table's gradient for one rank."""

    how: int
    rows: int
    keys: Tensor  # uint8
    encoded: EncodedRows
    occurrences: Tensor | None
    by_table: Tensor

    def counts(self) -> list[int]:
        s = wire.shape_of(self.encoded)
        return [self.how, self.rows, len(self.keys), s.exact, s.tail, *self.by_table.tolist()]

    def message(self) -> Tensor:
        parts = [self.keys, wire.lay(self.encoded)]
        return torch.cat(parts if self.occurrences is None else [*parts, wire.as_bytes(self.occurrences)])


def pack(table: ShardedTable, held: LocalGradient | None, exchange: Exchange) -> list[Parcel]:
    """Parcels for each rank."""
    if held is None:
        held = _empty(table, exchange.channel.size)
    if held.call != table.answered.number:
        held = held.by_id(table.owners)
    values = held.values if table.sent_factor == 1 else held.values * table.sent_factor
    chosen, encoded = _encode(table, held.keys, values)
    for share in encoded:
        exchange.count(share)
    positional = held.call is not None
    return [
        _parcel(table, held.keys, rank, chosen, encoded[rank % len(encoded)], positional)
        for rank in range(exchange.channel.size)
    ]


def _encode(table: ShardedTable, keys: SortedKeys, values: Tensor) -> tuple[Tensor | None, list[EncodedRows]]:
    """(positions of the rows that go, None for all; these rows encoded, a share of columns each)

    With error feedback rows go with what is kept for them, and what they do not say is staged.
    """
    codec, measures = table.to_gradients.at(table.step), table.to_gradients.measures(table.step)
    kept, homeless = (None, None) if table.residuals is None else table.residuals.read(keys)
    whole = values if kept is None else values + kept
    chosen = _choose(table, whole, codec.top, homeless)
    noise = table.noise(*_at(chosen, keys.ids, keys.ordinals)) if codec.row.stochastic else None
    sent = table.shares(*_at(chosen, values))
    if kept is None and not measures:
        return chosen, [table.backend.encode(share, codec=codec.row, noise=noise) for share in sent]
    residual = table.shares(*_at(chosen, with_zeros(kept, values)))  # of whole rows, cut as they are
    encoded = [
        table.backend.encode(share, r, codec=codec.row, noise=noise) for share, r in zip(sent, residual, strict=True)
    ]
    left = torch.cat([e.residual for e in encoded], 1)
    left = left if chosen is None else whole.index_copy(0, chosen, left)
    if measures:
        table.to_gradients.measure(whole, left)
    return chosen, encoded if kept is None else _keep(table, keys, whole, left, chosen, homeless, encoded)


def _keep(
    table: ShardedTable, keys: SortedKeys, whole: Tensor, left: Tensor, chosen: Tensor | None, homeless: Tensor | None,
    encoded: list[EncodedRows],
) -> list[EncodedRows]:  # fmt: skip
    """Stage what is left; rows that find no room for it go exactly instead."""
    if homeless is not None and len(homeless):
        left = left.index_fill(0, homeless, 0.0)
        at = homeless if chosen is None else torch.searchsorted(chosen, homeless)
        exact = table.shares(whole[homeless])
        encoded = [wire.make_exact(e, at, rows) for e, rows in zip(encoded, exact, strict=True)]
    if table.residuals is not None:
        table.residuals.stage(keys, left)
    return encoded


def _empty(table: ShardedTable, world: int) -> LocalGradient:
    def none(dtype: torch.dtype) -> Tensor:
        return torch.zeros(0, dtype=dtype, device=table.device)

    by_table = torch.zeros(world, len(table.names), dtype=torch.int64)
    short = none(torch.int32)
    keys = SortedKeys(none(torch.int64), short, short, short, ((0, 0),) * world, by_table)
    return LocalGradient(keys, torch.zeros(0, table.row_dim, device=table.device), None)


def _at(chosen: Tensor | None, *tensors: Tensor) -> tuple[Tensor, ...]:
    return tensors if chosen is None else tuple(x[chosen] for x in tensors)


def _choose(table: ShardedTable, values: Tensor, top: float | None, homeless: Tensor | None) -> Tensor | None:
    """Positions int64 [K] of the rows to send, ascending: those of largest norm, and what cannot wait; None for all."""
    if top is None or not len(values):
        return None
    chosen = table.backend.select_rows(values, math.ceil(top * len(values)))
    return chosen if homeless is None or not len(homeless) else torch.cat([chosen, homeless]).unique()


def _parcel(
    table: ShardedTable,
    keys: SortedKeys,
    rank: int,
    chosen: Tensor | None,
    encoded: EncodedRows,
    positional: bool,
) -> Parcel:
    beg, end = keys.spans[rank]
    positions = torch.arange(beg, end, device=keys.ids.device) if chosen is None else chosen
    here = torch.arange(len(positions), device=positions.device)
    if chosen is not None:
        here = here[(chosen >= beg) & (chosen < end)]
        positions = chosen[here]
    part = wire.take(encoded, positions if chosen is None else here)
    occurrences = keys.counts[positions] if table.reduce_by_id else None
    by_table = torch.bincount(keys.ordinals[positions], minlength=len(table.names)).cpu()
    how, said = _say_keys(table, keys, positions, rank, chosen is None, positional)
    return Parcel(how, len(positions), said, part, occurrences, by_table)


def _say_keys(
    table: ShardedTable, keys: SortedKeys, positions: Tensor, rank: int, whole: bool, positional: bool
) -> tuple[int, Tensor]:
    nothing = torch.zeros(0, dtype=torch.uint8, device=positions.device)
    if not len(positions):
        return NOTHING, nothing
    if not positional:
        return BY_ID, table.backend.pack_ids(keys.ids[positions])
    if whole and keys.hot is None:
        return ALL, nothing
    return SOME, table.backend.pack_ids(_places(table, keys, positions, rank))


def _places(table: ShardedTable, keys: SortedKeys, positions: Tensor, rank: int) -> Tensor:
    """How the owner counts them: what this rank asked for, and behind it all hot rows that live there."""
    places = positions - keys.spans[rank][0]
    if keys.hot is None or table.hot is None:
        return places
    hot = keys.hot[positions]
    return torch.where(hot < 0, places, hot - table.hot.spans()[rank][0] + keys.asked[rank])


def send(exchange: Exchange, tables: list[ShardedTable], parcels: list[list[Parcel]]) -> None:
    """Collective: parcels[table][rank] to the owners; each table receives what came, in the order of ranks."""
    W, widths = exchange.channel.size, [COUNTS + len(t.names) for t in tables]
    with exchange.channel.failing_together("gradients"):
        counts = torch.tensor([[x for by_rank in parcels for x in by_rank[p].counts()] for p in range(W)])
        mine = [torch.cat([by_rank[p].message() for by_rank in parcels]) for p in range(W)]

    def lengths_of(theirs: Tensor) -> list[list[int]]:
        return [[_length(t, c) for t, c in zip(tables, line.split(widths), strict=True)] for line in theirs]

    theirs, finish = exchange.channel.start(
        "gradients", mine, lambda theirs: [sum(n) for n in lengths_of(theirs)], "gradients",
        about=exchange.position(), counts=counts.reshape(W, -1), here=exchange.where,
    )  # fmt: skip
    lengths, cut = lengths_of(theirs), [line.split(widths) for line in theirs]
    exchange.in_flight(lambda: _open(tables, finish(), lengths, cut))


def _open(tables: list[ShardedTable], arrived: list[Tensor], lengths: list[list[int]], counts: list) -> None:
    """All of them, or none where one fails."""
    before = [table.unapplied for table in tables]
    try:
        for p, message in enumerate(arrived):
            for table, part, line in zip(tables, message.split(lengths[p]), counts[p], strict=True):
                _receive(table, p, part.to(table.device), line)
    except BaseException:
        for table, waits in zip(tables, before, strict=True):
            table.unapplied = waits
        raise


def _codec(table: ShardedTable) -> RowCodec:
    return table.to_gradients.at(table.step).row


def _shape(line: Tensor) -> wire.Shape:
    _, rows, _, exact, tail = line[:COUNTS].tolist()
    return wire.Shape(rows, exact, tail)


def _length(table: ShardedTable, line: Tensor) -> int:
    shape = _shape(line)
    return int(line[2]) + shape.length(_codec(table), table.spec.dim) + (4 * shape.rows if table.reduce_by_id else 0)


def _receive(table: ShardedTable, rank: int, message: Tensor, line: Tensor) -> None:
    shape, codec = _shape(line), _codec(table)
    how, key_bytes = int(line[0]), int(line[2])
    if how == NOTHING:
        return
    said, rows, occurrences = message.split(
        [key_bytes, shape.length(codec, table.spec.dim), len(message) - key_bytes - shape.length(codec, table.spec.dim)]
    )
    values = wire.read(table.backend, rows, shape, codec, table.spec.dim)
    counts = occurrences.clone().view(torch.int32) if table.reduce_by_id else None
    table.receive(*_heard_keys(table, rank, how, said, line), values, counts)


def _heard_keys(table: ShardedTable, rank: int, how: int, said: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    if how == BY_ID:
        return table.backend.unpack_ids(said, int(line[1])), ordinals_of(line[COUNTS:], table.device)
    ids, ordinals = table.answered.keys[rank]
    if how == ALL:
        return ids, ordinals
    if table.hot is not None:
        ids, ordinals = (torch.cat(pair) for pair in zip((ids, ordinals), table.hot.owned_keys(), strict=True))
    places = table.backend.unpack_ids(said, int(line[1]))
    return ids[places], ordinals[places]
