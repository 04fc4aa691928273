"""One digest of tables' rows and slots.

Sizes: W ranks, n rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from recis_core.channel.channel import Channel
from recis_core.exchange.gathering import gathered
from recis_core.nn.hash_table import HashTable

KIND = "digest"  # the kind of these calls when ranks agree
CHUNK = 1 << 22  # bytes of rows that the first rank gathers at a time


def tables_sha256(tables: Mapping[str, HashTable]) -> str:
    """SHA-256 over every table's name, ids, rows and slots, tables by name, ids ascending, little-endian.

    If ranks share the tables, the digest is over all ranks' rows, as if one process had them. Then the call is
    collective; the first rank returns the digest, the others "".
    """
    sha256, known = hashlib.sha256(), True
    for name in sorted(tables):
        exchange = tables[name].physical.exchange
        sha256.update(name.encode())
        for block in _blocks(tables[name], None if exchange is None else exchange.channel):
            sha256.update(block)
        known = known and (exchange is None or exchange.channel.rank == 0)
    return sha256.hexdigest() if known else ""


def _blocks(table: HashTable, channel: Channel | None) -> Iterator[bytes]:
    with nullcontext() if channel is None else channel.failing_together(KIND):
        snapshot = table.snapshot()
        parts = [snapshot.weights, *(snapshot.slots[s] for s in sorted(snapshot.slots))]
    if channel is not None:
        channel.meet(KIND, (table.name, [part.dtype for part in parts]), here=lambda: f"Here: table {table.name!r}.")
    if channel is None:
        yield from map(_bytes, [snapshot.ids, *parts])
        return
    if table.physical.columns != (0, table.physical.row_dim):
        yield from _whole_rows(channel, snapshot.ids, parts)
        return
    if table.physical.replicated and channel.rank != 0:
        snapshot.ids, parts = snapshot.ids[:0], [part[:0] for part in parts]
    ids = torch.cat(gathered(channel, snapshot.ids, 0, KIND))
    ids, order = ids.sort()
    ranks = torch.repeat_interleave(torch.arange(channel.size), _counts(channel, len(snapshot.ids)))
    yield _bytes(ids)
    for part in parts:
        yield from _in_order(channel, part, ranks[order] if channel.rank == 0 else ranks)


def _whole_rows(channel: Channel, ids: Tensor, parts: list[Tensor]) -> Iterator[bytes]:
    """Rows of a table cut by columns: the first rank joins the columns, some rows at a time."""
    yield _bytes(ids)
    for part in parts:
        rows = max(1, CHUNK // (part.shape[1] * part.element_size()))
        for beg in range(0, len(part), rows):
            got = gathered(channel, part[beg : beg + rows].flatten(), 0, KIND)
            if channel.rank == 0:
                yield _bytes(torch.cat([columns.reshape(len(part[beg : beg + rows]), -1) for columns in got], 1))


def _counts(channel: Channel, mine: int) -> Tensor:
    return channel.meet(KIND, counts=torch.full((channel.size, 1), mine))[:, 0]


def _in_order(channel: Channel, part: Tensor, ranks: Tensor) -> Iterator[bytes]:
    """On the first rank, rows of all ranks, some at a time; `ranks` names the rank of each next row."""
    rows = max(1, CHUNK // (part.shape[1] * part.element_size()))
    for beg in range(0, len(ranks), rows):
        wanted = ranks[beg : beg + rows]
        take = torch.bincount(wanted, minlength=channel.size) if channel.rank == 0 else torch.zeros(channel.size).long()
        mine = int(channel.meet(KIND, counts=take[:, None])[0, 0])
        got = gathered(channel, part[:mine], 0, KIND)
        part = part[mine:]
        if channel.rank == 0:
            yield _bytes(torch.cat(got)[torch.argsort(torch.argsort(wanted, stable=True))])


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()
