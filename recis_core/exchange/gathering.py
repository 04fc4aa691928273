"""Values of all ranks, gathered outside of a step: results, and parts that one rank puts together.

Sizes: W ranks, n rows of one rank.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from recis_core.channel.channel import Channel
from recis_core.exchange.wire import as_bytes

SENT = "reports"  # under which these bytes are counted


def gathered(channel: Channel, rows: Tensor, to: int | None = None, kind: str = "gather") -> list[Tensor]:
    """Each rank's [n, …], of any n, on the CPU: on every rank, or on rank `to` alone and empty elsewhere. Collective.

    kind: of the call, one of agreement.KINDS. Ranks must agree on it, on dtype, and on the shape of a row.
    """
    with channel.failing_together(kind):
        message, nothing = as_bytes(rows.cpu()), torch.zeros(0, dtype=torch.uint8)
        messages = [message if to in (None, p) else nothing for p in range(channel.size)]
        counts = torch.tensor([[len(m)] for m in messages])
    _, arrived = channel.swap(
        kind, messages, lambda theirs: theirs[:, 0].tolist(), SENT,
        about=(rows.dtype, rows.shape[1:], to), counts=counts,
    )  # fmt: skip
    # A memory of its own for each, for alignment.
    return [m.cpu().clone().view(rows.dtype).reshape(-1, *rows.shape[1:]) for m in arrived]


def gathered_json(channel: Channel, value: Any, to: int | None = None, kind: str = "gather") -> list[Any]:
    """Each rank's JSON value; None on ranks other than `to`. Collective."""
    with channel.failing_together(kind):
        message = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    arrived = gathered(channel, message, to, kind)
    return [json.loads(bytes(m.numpy())) if len(m) else None for m in arrived]


def summed(channel: Channel, numbers: Tensor, kind: str = "gather") -> Tensor:
    """Σ over ranks, in their order, on every rank: the same bits everywhere. Collective."""
    return torch.stack(gathered(channel, numbers[None], None, kind)).sum(0)[0]
