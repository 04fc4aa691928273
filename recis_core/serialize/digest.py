"""One digest for all that was learned in tables.

Sizes: W ranks, n rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from recis_core.exchange.agreement import digest
from recis_core.exchange.gathering import gathered
from recis_core.exchange.world import World
from recis_core.nn.hash_table import HashTable

KIND = "digest"  # of these calls, among those that ranks agree on
CHUNK = 1 << 22  # bytes of rows that the first rank gets at once


def tables_sha256(tables: Mapping[str, HashTable]) -> str:
    """SHA-256 over every table's name, ids, rows and slots, tables by name, ids ascending, little-endian.

    Of tables that ranks share it is over all ranks' rows, as if one process had them; collective, and the first
    rank's to know: "" on the others.
    """
    sha256, known = hashlib.sha256(), True
    for name in sorted(tables):
        exchange = tables[name].physical.exchange
        sha256.update(name.encode())
        for block in _blocks(tables[name], None if exchange is None else exchange.world):
            sha256.update(block)
        known = known and (exchange is None or exchange.world.rank == 0)
    return sha256.hexdigest() if known else ""


def _blocks(table: HashTable, world: World | None) -> Iterator[bytes]:
    with nullcontext() if world is None else world.agreement.telling(KIND):
        snapshot = table.snapshot()
        parts = [snapshot.weights, *(snapshot.slots[s] for s in sorted(snapshot.slots))]
    if world is not None:
        said = digest(table.name, [part.dtype for part in parts])
        world.agreement.meet(KIND, said, here=lambda: f"Here: table {table.name!r}.")
    if world is None:
        yield from map(_bytes, [snapshot.ids, *parts])
        return
    if table.physical.columns != (0, table.physical.row_dim):
        yield from _whole_rows(world, snapshot.ids, parts)
        return
    if table.physical.replicated and world.rank != 0:
        snapshot.ids, parts = snapshot.ids[:0], [part[:0] for part in parts]
    ids = torch.cat(gathered(world, snapshot.ids, 0, KIND))
    ids, order = ids.sort()
    ranks = torch.repeat_interleave(torch.arange(world.size), _counts(world, len(snapshot.ids)))
    yield _bytes(ids)
    for part in parts:
        yield from _in_order(world, part, ranks[order] if world.rank == 0 else ranks)


def _whole_rows(world: World, ids: Tensor, parts: list[Tensor]) -> Iterator[bytes]:
    """Of a table that is cut by columns: the first rank puts them side by side, some rows at a time."""
    yield _bytes(ids)
    for part in parts:
        rows = max(1, CHUNK // (part.shape[1] * part.element_size()))
        for beg in range(0, len(part), rows):
            got = gathered(world, part[beg : beg + rows].flatten(), 0, KIND)
            if world.rank == 0:
                yield _bytes(torch.cat([columns.reshape(len(part[beg : beg + rows]), -1) for columns in got], 1))


def _counts(world: World, mine: int) -> Tensor:
    return world.agreement.meet(KIND, counts=torch.full((world.size, 1), mine))[:, 0]


def _in_order(world: World, part: Tensor, ranks: Tensor) -> Iterator[bytes]:
    """The first rank puts rows of all ranks into the order of `ranks`, whose rows come next, some at a time."""
    rows = max(1, CHUNK // (part.shape[1] * part.element_size()))
    for beg in range(0, len(ranks), rows):
        wanted = ranks[beg : beg + rows]
        take = torch.bincount(wanted, minlength=world.size) if world.rank == 0 else torch.zeros(world.size).long()
        mine = int(world.agreement.meet(KIND, counts=take[:, None])[0, 0])
        got = gathered(world, part[:mine], 0, KIND)
        part = part[mine:]
        if world.rank == 0:
            yield _bytes(torch.cat(got)[torch.argsort(torch.argsort(wanted, stable=True))])


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()
