"""One forward over all tables of an engine: unique keys to their owners, rows back, one message a rank each way.

    agree   by job: keys of each logical table, bytes of packed ids; whether hot rows were written
    ids     by job, packed; behind them each key's occurrences, int16, where owners admit rows by them
    agree   by job: exact rows, bytes of tail
    rows    by job, as wire.py lays them

Sizes: W ranks, J jobs, T logical tables of a job's storage, U unique keys, D dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from recis_core.backends import LookupCall, LookupMode
from recis_core.backends.errors import RecisError
from recis_core.backends.records import EncodedRows, Partition
from recis_core.exchange import hot_rows, wire
from recis_core.exchange.adaptive import with_zeros
from recis_core.exchange.key_requests import IncomingRequest, KeyRequest, LastRequests, SavedForward
from recis_core.exchange.keys import ordinals_of, sort_partition
from recis_core.exchange.sharded_table import FORWARD_RESIDUAL, ShardedTable
from recis_core.options.precision import Codec
from recis_core.table.physical import Ticket

if TYPE_CHECKING:
    from recis_core.exchange.exchange import Exchange
    from recis_core.table.storage import Storage

Counted = tuple[Tensor, list[Tensor]]  # counts int64 [W, C] and a message for each rank


class Job(Protocol):
    table: ShardedTable
    call: LookupCall
    mode: LookupMode


@dataclass
class Lookup:
    """A job under way.

    trains: whether it inserts and counts as a use. asked: keys that this rank asks each rank for. codec: of rows.
    dims, widths: of a row from each rank, columns, and bytes of its code.
    most: occurrences of a key that its owner counts at most; None: it counts none.
    """

    table: ShardedTable
    storage: Storage
    mode: LookupMode
    trains: bool
    request: KeyRequest
    asked: list[int]
    codec: Codec
    dims: list[int]
    widths: list[int]
    most: int | None
    rows: Tensor | None = None  # float32 [U, D] in the order of request.keys, once they have come


def embed(
    exchange: Exchange, jobs: Sequence[Job], needs: Sequence[tuple[bool, ...]]
) -> list[tuple[list[Tensor], object, Ticket]]:
    """For each job its outputs, what its backward needs, and a ticket. Collective.

    A training forward counts once all ranks have agreed to its last message.
    """
    trains = any(job.mode.insert and job.mode.touch for job in jobs)
    kind = "forward" if trains else "eval"
    with exchange.channel.failing_together(kind):
        exchange.open_forward(trains)
        lookups = [_lookup(job) for job in jobs]
        away = [lookup for lookup in lookups if not lookup.table.replicated]
        outgoing = _ids_to_send(exchange, away) if away else None
    if outgoing is not None:
        _fetch(exchange, kind, away, *outgoing)
    else:
        exchange.channel.meet(kind, exchange.position(), here=exchange.where)
        exchange.forwards += trains
    rows = [_rows_here(lookup) if lookup.rows is None else lookup.rows for lookup in lookups]
    return [_outputs(exchange, *found) for found in zip(lookups, rows, needs, strict=True)]


# Unique keys and their owners


def _lookup(job: Job) -> Lookup:
    table, storage, call, mode = job.table, job.table.storage, job.call, job.mode
    lengths = torch.tensor(call.lengths, dtype=torch.int64)
    ordinals = torch.repeat_interleave(torch.tensor(call.ordinals, dtype=torch.int32), lengths)
    p = storage.partition(call.ids, ordinals.to(call.ids.device))
    trains, hot = mode.insert and mode.touch, None
    if table.hot is not None:
        hot = table.hot.find(p.ids, p.tables)
        if trains:
            table.hot.use(p.ids, p.tables, p.counts)
    keys, inverse = sort_partition(p, table.owners, hot)
    parts = list(zip(call.requests, inverse.split([int(r.offsets[-1]) for r in call.requests]), strict=True))
    codec, dims = table.to_rows.at(table.step), table.dims
    width = {dim: codec.row.row_bytes(dim) for dim in set(dims)}
    most = None if storage.gate is None or not trains else storage.gate.counts_to
    return Lookup(
        table, storage, mode, trains, KeyRequest(mode, keys, parts), keys.asked,
        codec, dims, [width[dim] for dim in dims], most,
    )  # fmt: skip


def _asked_of(lookup: Lookup, rank: int) -> IncomingRequest:
    """Keys that this rank asks one rank for."""
    keys, most = lookup.request.keys, lookup.most
    beg, end = keys.spans[rank][0], keys.spans[rank][0] + lookup.asked[rank]
    counts = None if most is None else keys.counts[beg:end].clamp(max=most)
    return IncomingRequest(keys.ids[beg:end], keys.ordinals[beg:end], counts)


def _packed(lookup: Lookup, rank: int) -> list[Tensor]:
    """For each rank the keys asked of it: packed ids, and occurrences. Nothing for this rank, which has them."""
    pack, messages = lookup.table.backend.pack_ids, []
    for p in range(len(lookup.asked)):
        asked = _asked_of(lookup, p)
        parts = [asked.ids.new_empty(0, dtype=torch.uint8) if p == rank else pack(asked.ids)]
        if asked.counts is not None and p != rank:
            parts.append(wire.as_bytes(asked.counts.short()))
        messages.append(torch.cat(parts))
    return messages


def _ids_to_send(exchange: Exchange, lookups: list[Lookup]) -> Counted:
    W, columns, hot = exchange.channel.size, [], exchange.hot
    packed = [_packed(lookup, exchange.channel.rank) for lookup in lookups]
    for lookup, messages in zip(lookups, packed, strict=True):
        columns += [lookup.request.keys.by_table, torch.tensor([[len(m)] for m in messages])]
    if hot:
        columns.append(torch.tensor([[int(any(h.written for h in hot))]]).expand(W, 1))
    return torch.cat(columns, 1), [torch.cat([messages[p] for messages in packed]) for p in range(W)]


# Ids go, rows come


def _fetch(exchange: Exchange, kind: str, lookups: list[Lookup], counts: Tensor, messages: list[Tensor]) -> None:
    """Give each lookup its rows."""
    number = exchange.forwards + (kind == "forward")
    by_job, arrived = _swap_ids(exchange, kind, lookups, counts, messages)
    try:
        with exchange.channel.failing_together("rows"):
            counts, messages = _rows_to_send(exchange, lookups, by_job, arrived, number)
        shapes, arrived = _swap_rows(exchange, lookups, counts, messages)
        exchange.forwards = number
    finally:
        if exchange.forwards != number:  # on every rank: then no owner knows whose keys these were
            for lookup in lookups:
                lookup.table.last_requests = LastRequests()
    if exchange.hot:
        hot_rows.copy_stale(exchange)
    cut = [message.split(lengths) for message, lengths in zip(arrived, wire.lengths(shapes), strict=True)]
    for j, lookup in enumerate(lookups):
        lookup.rows = _rows(lookup, [parts[j] for parts in cut], [line[j] for line in shapes])


def _swap_ids(
    exchange: Exchange, kind: str, lookups: list[Lookup], counts: Tensor, messages: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """(counts of each job: int64 [W, T + 1], keys by table and bytes; what each rank sent)"""
    widths = [len(lookup.table.names) + 1 for lookup in lookups]
    last = torch.tensor(widths).cumsum(0) - 1
    theirs, arrived = exchange.channel.swap(
        kind, messages, lambda theirs: theirs[:, last].sum(1).tolist(), "ids",
        about=([(lookup.table.names, lookup.mode) for lookup in lookups], exchange.position()), counts=counts,
        here=exchange.where,
    )  # fmt: skip
    if exchange.hot:
        hot_rows.after_writes(exchange.hot, theirs[:, -1])
    return list(theirs[:, : sum(widths)].split(widths, 1)), arrived


def _swap_rows(
    exchange: Exchange, lookups: list[Lookup], counts: Tensor, messages: list[Tensor]
) -> tuple[list[list[wire.Shape]], list[Tensor]]:
    """(shape of each rank's rows for each job, what each rank sent)"""
    shapes: list[list[wire.Shape]] = []

    def lengths(theirs: Tensor) -> list[int]:
        for p, line in enumerate(theirs.tolist()):
            announced = zip(lookups, line[::2], line[1::2], strict=True)
            shapes.append([wire.Shape(x.asked[p], exact, tail, x.dims[p], x.widths[p]) for x, exact, tail in announced])
        return [sum(line) for line in wire.lengths(shapes)]

    return shapes, exchange.channel.swap("rows", messages, lengths, "rows", counts=counts)[1]


# Owners answer


def _rows_to_send(
    exchange: Exchange, lookups: list[Lookup], by_job: list[Tensor], arrived: list[Tensor], number: int
) -> Counted:
    """What this rank answers each rank."""
    rank, lengths = exchange.channel.rank, torch.stack([counts[:, -1] for counts in by_job], 1).tolist()
    cut = [message.split(n) for message, n in zip(arrived, lengths, strict=True)]
    answers = []
    for j, (lookup, counts) in enumerate(zip(lookups, by_job, strict=True)):
        incoming = [
            _asked_of(lookup, p) if p == rank else _incoming(lookup, parts[j], counts[p, :-1])
            for p, parts in enumerate(cut)
        ]
        answers.append(_answer(exchange, lookup, incoming, number))
    by_rank = list(zip(*answers, strict=True))
    sizes = torch.tensor([[x for part in parts for x in (part.exact, part.tail)] for parts in by_rank])
    return sizes, [torch.cat([part.message for part in parts]) for parts in by_rank]


def _incoming(lookup: Lookup, message: Tensor, by_table: Tensor) -> IncomingRequest:
    table, n = lookup.table, int(by_table.sum())
    message, counts = message.to(table.device), None
    if lookup.most is not None:
        message, behind = message.split([len(message) - 2 * n, 2 * n])
        counts = behind.clone().view(torch.int16).int() & 0xFFFF
    return IncomingRequest(table.backend.unpack_ids(message, n), ordinals_of(by_table, table.device), counts)


def _answer(exchange: Exchange, lookup: Lookup, incoming: list[IncomingRequest], number: int) -> list[wire.Part]:
    """For each rank the rows it asked for; each row is encoded once."""
    table, mode = lookup.table, lookup.mode
    if lookup.trains:
        table.last_requests = LastRequests(number, [(r.ids, r.ordinals) for r in incoming])
    p = lookup.storage.partition(torch.cat([r.ids for r in incoming]), torch.cat([r.ordinals for r in incoming]))
    rows = _find_or_insert(lookup, p.ids, p.tables, _occurrences(incoming, p), mode)
    values = lookup.storage.gather(rows, p.ids, p.tables, unknown=mode.unknown)
    encoded = _encode(lookup, values, rows, p)
    exchange.count(encoded)
    return [wire.part(encoded, index) for index in p.inverse.split([len(r.ids) for r in incoming])]


def _find_or_insert(lookup: Lookup, ids: Tensor, ordinals: Tensor, counts: Tensor | None, mode: LookupMode) -> Tensor:
    """Row numbers of unique keys."""
    table = lookup.table
    rows, _ = lookup.storage.lookup(ids, ordinals, mode=mode, clock=table.clock, counts=counts)
    if mode.insert:
        for observer in table.observers:
            observer(ids[rows >= 0], ordinals[rows >= 0])
    return rows


def _occurrences(incoming: list[IncomingRequest], p: Partition) -> Tensor | None:
    """int32 [U]: of each key on all ranks."""
    counts = [r.counts for r in incoming if r.counts is not None]
    return torch.zeros_like(p.counts).index_add_(0, p.inverse.long(), torch.cat(counts)) if counts else None


def _encode(lookup: Lookup, values: Tensor, rows: Tensor, p: Partition) -> EncodedRows:
    table, codec, trains = lookup.table, lookup.codec, lookup.trains
    if codec.error_feedback and lookup.mode.insert and not trains:
        raise RecisError(
            "the engine is inside a region that activation checkpointing runs again, and its rows travel with "
            "error feedback, which has moved on: they would come out other than the first time. Keep the "
            "engine outside the region, or the forward precision without error feedback."
        )
    noise = table.noise(p.ids, p.tables) if codec.row.stochastic else None
    feeds, measures = codec.error_feedback and trains, trains and table.to_rows.measures(table.step)
    residual = lookup.storage.read_slot(FORWARD_RESIDUAL, rows) if feeds else None
    if measures:
        residual = with_zeros(residual, values)
    encoded = table.backend.encode(values, residual, codec=codec.row, noise=noise)
    if feeds:
        lookup.storage.write_slot(FORWARD_RESIDUAL, rows, encoded.residual)
    if measures:
        table.to_rows.measure(values, encoded.residual)
    return encoded


# Rows into outputs


def _rows(lookup: Lookup, messages: list[Tensor], shapes: list[wire.Shape]) -> Tensor:
    """float32 [U, D] in the order of the keys, from what each rank answered; hot rows are at hand."""
    table, keys = lookup.table, lookup.request.keys
    read = partial(wire.read, table.backend, codec=lookup.codec.row, device=table.device)
    if table.owners.everywhere:
        return torch.cat([read([message], [shape]) for message, shape in zip(messages, shapes, strict=True)], 1)
    fetched = read(messages, shapes)
    if keys.hot is None or table.hot is None:
        return fetched
    parts = []
    for rows, (beg, end) in zip(fetched.split(lookup.asked), keys.spans, strict=True):
        parts += [rows, table.hot.values[keys.hot[beg + len(rows) : end]]]
    return torch.cat(parts)


def _rows_here(lookup: Lookup) -> Tensor:
    """The same of a table that every rank has whole."""
    table, mode, keys = lookup.table, lookup.mode, lookup.request.keys
    if table.touched_by_gradients:
        mode = replace(mode, touch=False)
    rows = _find_or_insert(lookup, keys.ids, keys.ordinals, None, mode)
    return lookup.storage.gather(rows, keys.ids, keys.ordinals, unknown=mode.unknown)


def _outputs(
    exchange: Exchange, lookup: Lookup, rows: Tensor, need: tuple[bool, ...]
) -> tuple[list[Tensor], object, Ticket]:
    request, pool = lookup.request, lookup.table.backend.pool
    pooled = [
        pool(rows, inverse, r.offsets, r.weights, combiner=r.combiner, tile_len=r.tile_len)
        for r, inverse in request.parts
    ]
    saved = SavedForward(request, rows if any(need) else None, need, exchange.forwards)
    return pooled, saved, lookup.table.ticket()
