"""Gradients to their owners: once an optimizer step, all tables in one message a rank.

    a table:  ids packed, or positions packed, or nothing | rows as wire.py lays them | occurrences int32, by_id only

Where all gradients of a table are of its last forward, sender and owner both still know which keys it asked for: then
no id travels, and only the positions of a selection do.

Sizes: W ranks, P storages, T logical tables, U unique keys, K sent rows, D dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from recis_core.backends.records import EncodedRows
from recis_core.exchange import wire
from recis_core.exchange.adaptive import with_zeros
from recis_core.exchange.keys import SortedKeys, ordinals_of
from recis_core.exchange.local_gradient import LocalGradient
from recis_core.exchange.sharded_table import ShardedTable
from recis_core.options.precision import Codec

if TYPE_CHECKING:
    from recis_core.exchange.exchange import Exchange

NOTHING, ALL, SOME, BY_ID = range(4)  # how keys are named
COUNTS = 5  # a table: how keys are named, rows, bytes of keys, exact rows, bytes of tail; then rows by logical table


@dataclass(frozen=True)
class Parcel:
    """One table's gradient for one rank."""

    how: int
    keys: Tensor  # uint8
    part: wire.Part
    occurrences: Tensor | None
    by_table: Tensor

    def counts(self) -> list[int]:
        _, rows, exact, tail = self.part
        return [self.how, rows, len(self.keys), exact, tail, *self.by_table.tolist()]

    def message(self) -> Tensor:
        parts = [self.keys, self.part.message]
        return torch.cat(parts if self.occurrences is None else [*parts, wire.as_bytes(self.occurrences)])


class Incoming(NamedTuple):
    """What one rank announces of one table's gradient."""

    how: int
    shape: wire.Shape
    sections: list[int]  # bytes of keys, rows, occurrences
    by_table: Tensor


def send(exchange: Exchange) -> Callable[[], None]:
    """Start to send all tables' local gradients to the owners; the result waits, and each table receives what came, in
    the order of ranks. Collective.
    """
    channel, tables = exchange.channel, exchange.tables
    with channel.failing_together("gradients"):
        codecs = [table.to_gradients.at(table.step) for table in tables]
        parcels = [pack(table, codec, exchange) for table, codec in zip(tables, codecs, strict=True)]
        by_rank = list(zip(*parcels, strict=True))
        counts = torch.tensor([[x for parcel in parcels for x in parcel.counts()] for parcels in by_rank])
        messages = [torch.cat([parcel.message() for parcel in parcels]) for parcels in by_rank]
        widths = [codec.row.row_bytes(table.spec.dim) for table, codec in zip(tables, codecs, strict=True)]
    coming: list[list[Incoming]] = []

    def lengths(theirs: Tensor) -> list[int]:
        coming.extend(_announced(tables, widths, theirs))
        return [sum(sum(one.sections) for one in line) for line in coming]

    _, finish = channel.start(
        "gradients", messages, lengths, "gradients", about=exchange.position(), counts=counts, here=exchange.where
    )
    return lambda: _open(tables, codecs, finish(), coming)


def pack(table: ShardedTable, codec: Codec, exchange: Exchange) -> list[Parcel]:
    """Parcels for each rank."""
    gradient = table.local_gradient() or _empty(table)
    if gradient.call != table.last_requests.number:
        gradient = gradient.by_id(table.owners)
    values = gradient.values if table.sent_factor == 1 else gradient.values * table.sent_factor
    chosen, encoded = _encode(table, codec, gradient.keys, values)
    for share in encoded:
        exchange.count(share)
    return [
        _parcel(table, gradient, rank, chosen, encoded[rank % len(encoded)]) for rank in range(exchange.channel.size)
    ]


def _encode(
    table: ShardedTable, codec: Codec, keys: SortedKeys, values: Tensor
) -> tuple[Tensor | None, list[EncodedRows]]:
    """(positions of the rows that go, None for all; these rows encoded, a share of columns each)

    With error feedback each row goes with the residual that is kept for it, and what its code loses is staged.
    """
    measures = table.to_gradients.measures(table.step)
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
    """Stage residuals; rows whose residual finds no room go exactly instead."""
    if homeless is not None and len(homeless):
        left = left.index_fill(0, homeless, 0.0)
        at = homeless if chosen is None else torch.searchsorted(chosen, homeless)
        exact = table.shares(whole[homeless])
        encoded = [wire.make_exact(e, at, rows) for e, rows in zip(encoded, exact, strict=True)]
    if table.residuals is not None:
        table.residuals.stage(keys, left)
    return encoded


def _empty(table: ShardedTable) -> LocalGradient:
    def none(dtype: torch.dtype) -> Tensor:
        return torch.zeros(0, dtype=dtype, device=table.device)

    by_table = torch.zeros(table.world, len(table.names), dtype=torch.int64)
    short = none(torch.int32)
    keys = SortedKeys(none(torch.int64), short, short, short, ((0, 0),) * table.world, by_table)
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
    table: ShardedTable, gradient: LocalGradient, rank: int, chosen: Tensor | None, encoded: EncodedRows
) -> Parcel:
    keys = gradient.keys
    beg, end = keys.spans[rank]
    positions = torch.arange(beg, end, device=keys.ids.device) if chosen is None else chosen
    here = torch.arange(len(positions), device=positions.device)
    if chosen is not None:
        here = here[(chosen >= beg) & (chosen < end)]
        positions = chosen[here]
    part = wire.part(encoded, positions if chosen is None else here)
    occurrences = _counts(table, keys.counts[positions]) if table.reduce_by_id else None
    by_table = torch.bincount(keys.ordinals[positions], minlength=len(table.names)).cpu()
    how, named = _named(table, gradient, positions, rank, chosen is None)
    return Parcel(how, named, part, occurrences, by_table)


def _counts(table: ShardedTable, occurrences: Tensor) -> Tensor:
    """What a rank's gradient of each key counts in the mean."""
    return torch.ones_like(occurrences) if table.each_rank_once else occurrences


def _named(
    table: ShardedTable, gradient: LocalGradient, positions: Tensor, rank: int, whole: bool
) -> tuple[int, Tensor]:
    """How the owner learns which keys these are."""
    keys, nothing = gradient.keys, torch.zeros(0, dtype=torch.uint8, device=positions.device)
    if not len(positions):
        return NOTHING, nothing
    if gradient.call is None:
        return BY_ID, table.backend.pack_ids(keys.ids[positions])
    if whole and keys.hot is None:
        return ALL, nothing
    return SOME, table.backend.pack_ids(_places(table, keys, positions, rank))


def _places(table: ShardedTable, keys: SortedKeys, positions: Tensor, rank: int) -> Tensor:
    """As the owner counts keys: those that this rank asked for, then all hot rows that the owner has."""
    places = positions - keys.spans[rank][0]
    if keys.hot is None or table.hot is None:
        return places
    hot = keys.hot[positions]
    return torch.where(hot < 0, places, hot - table.hot.spans()[rank][0] + keys.asked[rank])


# Owners receive


def _announced(tables: Sequence[ShardedTable], widths: list[int], theirs: Tensor) -> list[list[Incoming]]:
    """By rank and table. widths: bytes of an encoded row of each table."""
    lines = [line.split([COUNTS + len(t.names) for t in tables]) for line in theirs]
    return [[_one(*each) for each in zip(tables, widths, line, strict=True)] for line in lines]


def _one(table: ShardedTable, width: int, line: Tensor) -> Incoming:
    how, rows, key_bytes, exact, tail = line[:COUNTS].tolist()
    shape = wire.Shape(rows, exact, tail, table.spec.dim, width)
    return Incoming(how, shape, [key_bytes, shape.length, 4 * rows * table.reduce_by_id], line[COUNTS:])


def _open(
    tables: Sequence[ShardedTable], codecs: list[Codec], arrived: list[Tensor], coming: list[list[Incoming]]
) -> None:
    """All of them, or none where one fails."""
    before = [table.unapplied for table in tables]
    try:
        cut = [m.split([sum(one.sections) for one in line]) for m, line in zip(arrived, coming, strict=True)]
        for i, (table, codec) in enumerate(zip(tables, codecs, strict=True)):
            _receive(table, codec, [parts[i] for parts in cut], [line[i] for line in coming])
    except BaseException:
        for table, waits in zip(tables, before, strict=True):
            table.unapplied = waits
        raise


def _receive(table: ShardedTable, codec: Codec, messages: list[Tensor], coming: list[Incoming]) -> None:
    """Ranks' gradients of one table."""
    if all(one.how == NOTHING for one in coming):
        return
    cut = [message.to(table.device).split(one.sections) for message, one in zip(messages, coming, strict=True)]
    shapes = [one.shape for one in coming]
    values = wire.read(table.backend, [rows for _, rows, _ in cut], shapes, codec=codec.row, device=table.device)
    by_rank = zip(coming, cut, values.split([shape.rows for shape in shapes]), strict=True)
    for rank, (one, (named, _, occurrences), rows) in enumerate(by_rank):
        if one.how != NOTHING:
            counts = occurrences.clone().view(torch.int32) if table.reduce_by_id else None
            table.receive(*_keys(table, rank, one, named), rows, counts)


def _keys(table: ShardedTable, rank: int, one: Incoming, named: Tensor) -> tuple[Tensor, Tensor]:
    if one.how == BY_ID:
        return table.backend.unpack_ids(named, one.shape.rows), ordinals_of(one.by_table, table.device)
    ids, ordinals = table.last_requests.keys[rank]
    if one.how == ALL:
        return ids, ordinals
    if table.hot is not None:
        ids, ordinals = (torch.cat(pair) for pair in zip((ids, ordinals), table.hot.owned_keys(), strict=True))
    places = table.backend.unpack_ids(named, one.shape.rows)
    return ids[places], ordinals[places]
