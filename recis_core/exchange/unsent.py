"""For a checkpoint: every sender's error-feedback residual, moved to the rows' owners, as a gradient still to apply.

Senders keep theirs. Sums are float32, exact on the wire, in the order of ranks.

Sizes: W ranks, P storages, n keys, D dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recis_core.exchange.keyed_rows import SLOT
from recis_core.exchange.sharded_table import ShardedTable
from recis_core.exchange.wire import as_bytes
from recis_core.table.unapplied import Carried, summed_by_key

if TYPE_CHECKING:
    from recis_core.exchange.exchange import Exchange


def unsent(exchange: Exchange, tables: Sequence[ShardedTable]) -> list[Carried]:
    """For each table all ranks' residuals of the rows on this rank, as a mean over ranks, and what the table carries.

    Collective: every rank, with the same tables.
    """
    W, empty = exchange.channel.size, torch.zeros(0, dtype=torch.uint8)
    with exchange.channel.failing_together("pending"):
        mine = [_by_owner(table, exchange.channel.size) for table in tables]
        counts = torch.tensor([[len(by_rank[p].ids) for by_rank in mine] for p in range(W)]).reshape(W, -1)
        messages = [torch.cat([empty, *(_message(by_rank[p]) for by_rank in mine)]) for p in range(W)]
    widths = torch.tensor([12 + 4 * table.spec.dim for table in tables], dtype=torch.int64)
    theirs, arrived = exchange.channel.swap(
        "pending", messages, lambda theirs: (theirs * widths).sum(1).tolist(), "pending",
        about=exchange.position(), counts=counts, here=exchange.where,
    )  # fmt: skip
    cut = [m.cpu().split((line * widths).tolist()) for m, line in zip(arrived, theirs, strict=True)]
    return [_at_owner(table, [parts[i] for parts in cut], W) for i, table in enumerate(tables)]


def _by_owner(table: ShardedTable, world: int) -> list[Carried]:
    """This rank's residuals, those of each rank's rows."""
    if table.residuals is None:
        return [_none(table)] * world
    kept = table.residuals.snapshot()
    whole = Carried(kept.ids, kept.tables, kept.slots[SLOT])
    if table.owners.everywhere:
        shares = table.shares(whole.values)
        return [Carried(whole.ids, whole.ordinals, shares[p % len(shares)]) for p in range(world)]
    owners = table.owners.of_ids(kept.ids, kept.tables)
    return [Carried(*(x[owners == p] for x in vars(whole).values())) for p in range(world)]


def _none(table: ShardedTable) -> Carried:
    ids = torch.zeros(0, dtype=torch.int64)
    return Carried(ids, ids.int(), torch.zeros(0, table.spec.dim))


def _message(part: Carried) -> Tensor:
    return torch.cat([as_bytes(x) for x in vars(part).values()])


def _read(message: Tensor, dim: int) -> Carried:
    n = len(message) // (12 + 4 * dim)
    ids, ordinals, values = (x.clone() for x in message.split([8 * n, 4 * n, 4 * dim * n]))
    return Carried(ids.view(torch.int64), ordinals.view(torch.int32), values.view(torch.float32).reshape(n, dim))


def _at_owner(table: ShardedTable, messages: list[Tensor], world: int) -> Carried:
    total = summed_by_key([_read(m, table.spec.dim) for m in messages])
    mean = Carried(total.ids, total.ordinals, total.values / world)
    return mean if table.carried is None else summed_by_key([mean, table.carried])
