"""Ids to their owners, rows back: one forward over all its tables, each way one message a rank.

    counts  a job after the other: keys of each logical table, bytes of packed ids     (agreed first)
    ids     a job after the other, packed; each's occurrences behind them, int16, where an owner admits by them
    counts  a job after the other: exact rows, bytes of tail
    rows    a job after the other, as wire.py lays them

Sizes: W ranks, J jobs, T logical tables of a job's storage, D dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from recis_core.backends import LookupCall, LookupMode
from recis_core.exchange import hot_rows, wire
from recis_core.exchange.keys import SortedKeys, ordinals_of
from recis_core.exchange.sharded_table import Answered, Asked, AskedHere, ShardedTable

if TYPE_CHECKING:
    from recis_core.exchange.exchange import Exchange


class Job(Protocol):
    table: ShardedTable
    call: LookupCall
    mode: LookupMode


def fetch(exchange: Exchange, jobs: Sequence[Job], *, trains: bool) -> list[tuple[Asked, Tensor]]:
    """For each job what it asked, and the rows, float32 [U, D], in that order.

    A training forward counts once all ranks have agreed to its last message.
    """
    kind = "forward" if trains else "eval"
    with exchange.channel.failing_together(kind):
        asked = [job.table.ask(job.call, job.mode) for job in jobs]
    away = [i for i, job in enumerate(jobs) if not job.table.replicated]
    rows = _fetch_away(exchange, kind, [jobs[i] for i in away], [asked[i] for i in away])
    found = dict(zip(away, rows, strict=True))
    return [
        (a, found[i] if i in found else jobs[i].table.rows_here(a))  # type: ignore[attr-defined]
        for i, a in enumerate(asked)
    ]


def _fetch_away(exchange: Exchange, kind: str, jobs: Sequence[Job], asked: list[Asked]) -> list[Tensor]:
    """The rows of each job. Where there is no job, ranks still agree that they are in a forward."""
    number = exchange.forwards + (kind == "forward")
    if not jobs:
        exchange.channel.meet(kind, exchange.position(), here=exchange.where)
        exchange.forwards = number
        return []
    with exchange.channel.failing_together(kind):
        packed = [_packed(job.table, a) for job, a in zip(jobs, asked, strict=True)]
    keys = _send_ids(exchange, kind, jobs, asked, packed)
    try:
        with exchange.channel.failing_together("rows"):
            answers = [job.table.answer(k, job.mode, number) for job, k in zip(jobs, keys, strict=True)]
            for encoded, _ in answers:
                exchange.count(encoded)
            parts = [_parts(a, k) for a, k in zip(answers, keys, strict=True)]
        return _send_rows(exchange, number, jobs, asked, parts)
    finally:
        if exchange.forwards != number:  # on every rank: then no owner knows whose keys these were
            for job in jobs:
                job.table.answered = Answered()


def _packed(table: ShardedTable, asked: Asked) -> list[Tensor]:
    """Packed ids for each rank, and occurrences."""
    keys, most = asked.keys, table.counts_to(asked.mode)
    spans = [(beg, beg + n) for (beg, _), n in zip(keys.spans, keys.asked, strict=True)]
    packed = [table.backend.pack_ids(keys.ids[beg:end]) for beg, end in spans]
    if most is None:
        return packed
    counts = wire.as_bytes(keys.counts.clamp(max=most).short())
    return [torch.cat([ids, counts[2 * beg : 2 * end]]) for ids, (beg, end) in zip(packed, spans, strict=True)]


def _send_ids(
    exchange: Exchange, kind: str, jobs: Sequence[Job], asked: list[Asked], packed: list[list[Tensor]]
) -> list[list[AskedHere]]:
    """For each job the keys that each rank asks here."""
    W = exchange.channel.size
    with exchange.channel.failing_together(kind):
        columns = [
            torch.cat([a.keys.by_table, torch.tensor([[len(m)] for m in messages])], 1)
            for a, messages in zip(asked, packed, strict=True)
        ]
        columns.append(torch.tensor(hot_rows.written(exchange), dtype=torch.int64).expand(W, -1))
        widths = [c.shape[1] for c in columns]
        about = [(job.table.names, job.mode) for job in jobs], exchange.position()
        mine = [torch.cat([messages[p] for messages in packed]) for p in range(W)]

    def lengths_of(theirs: Tensor) -> Tensor:
        return torch.stack([c[:, -1] for c in theirs.split(widths, dim=1)[:-1]], 1)  # [W, J]

    theirs, arrived = exchange.channel.swap(
        kind, mine, lambda theirs: lengths_of(theirs).sum(1).tolist(), "ids",
        about=about, counts=torch.cat(columns, 1), here=exchange.where,
    )  # fmt: skip
    (*counts, wrote), lengths = theirs.split(widths, dim=1), lengths_of(theirs)
    hot_rows.hear_written(exchange, wrote)
    with exchange.channel.failing_together("rows"):
        cut = [message.split(lengths[p].tolist()) for p, message in enumerate(arrived)]
        return [[_heard(job, cut[p][j], counts[j][p, :-1]) for p in range(W)] for j, job in enumerate(jobs)]


def _heard(job: Job, message: Tensor, by_table: Tensor) -> AskedHere:
    table, n = job.table, int(by_table.sum())
    message, counts = message.to(table.device), None
    if table.counts_to(job.mode) is not None:
        message, behind = message.split([len(message) - 2 * n, 2 * n])
        counts = behind.clone().view(torch.int16).int() & 0xFFFF
    return AskedHere(table.backend.unpack_ids(message, n), ordinals_of(by_table, table.device), counts)


def _parts(answer: tuple[wire.EncodedRows, Tensor], asked: list[AskedHere]) -> list[wire.EncodedRows]:
    """For each rank the rows it asked for."""
    encoded, which = answer
    return [wire.take(encoded, index) for index in which.split([len(a.ids) for a in asked])]


def _send_rows(
    exchange: Exchange, number: int, jobs: Sequence[Job], asked: list[Asked], parts: list[list[wire.EncodedRows]]
) -> list[Tensor]:
    W = exchange.channel.size
    with exchange.channel.failing_together("rows"):
        shapes = [[wire.shape_of(part) for part in by_rank] for by_rank in parts]
        counts = torch.tensor([[x for s in shapes for x in (s[p].exact, s[p].tail)] for p in range(W)])
        mine = [torch.cat([wire.lay(by_rank[p]) for by_rank in parts]) for p in range(W)]
        codecs = [_codec(job) for job in jobs]

    def expected_of(theirs: Tensor) -> list[list[wire.Shape]]:
        lines = theirs.tolist()
        return [
            [wire.Shape(a.keys.asked[p], *lines[p][2 * j : 2 * j + 2]) for j, a in enumerate(asked)] for p in range(W)
        ]

    def lengths_of(expected: list[list[wire.Shape]]) -> list[list[int]]:
        return [
            [s.length(codec, job.table.dim_of(p)) for job, codec, s in zip(jobs, codecs, e, strict=True)]
            for p, e in enumerate(expected)
        ]

    theirs, arrived = exchange.channel.swap(
        "rows", mine, lambda theirs: [sum(n) for n in lengths_of(expected_of(theirs))], "rows",
        counts=counts,
    )  # fmt: skip
    exchange.forwards = number
    hot_rows.copy_stale(exchange)
    expected = expected_of(theirs)
    lengths = lengths_of(expected)
    cut = [message.split(n) for message, n in zip(arrived, lengths, strict=True)]
    return [
        _in_order(job.table, a.keys, [_values(job.table, cut[p][j], expected[p][j], job, p) for p in range(W)])
        for j, (job, a) in enumerate(zip(jobs, asked, strict=True))
    ]


def _in_order(table: ShardedTable, keys: SortedKeys, fetched: list[Tensor]) -> Tensor:
    """float32 [U, D]: what each rank answered, with the hot rows that are at hand behind it."""
    if keys.hot is None or table.hot is None:
        return table.side_by_side(fetched)
    parts = []
    for rows, (beg, end) in zip(fetched, keys.spans, strict=True):
        parts += [rows, table.hot.values[keys.hot[beg + len(rows) : end]]]
    return torch.cat(parts)


def _codec(job: Job) -> wire.RowCodec:
    return job.table.to_rows.at(job.table.step).row


def _values(table: ShardedTable, message: Tensor, shape: wire.Shape, job: Job, rank: int) -> Tensor:
    return wire.read(table.backend, message.to(table.device), shape, _codec(job), table.dim_of(rank))
