"""What ranks tell each other outside of a step: results, and parts of a whole that one of them puts together.

Sizes: W ranks, n rows of one rank.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from recis_core.exchange.wire import as_bytes
from recis_core.exchange.world import World

KIND = "reports"  # under which these bytes are counted


def gathered(world: World, rows: Tensor, to: int | None = None) -> list[Tensor]:
    """Each rank's [n, …], of any n, on the CPU: on every rank, or on rank `to` alone and empty elsewhere. Collective."""
    message, nothing = as_bytes(rows.cpu()), torch.zeros(0, dtype=torch.uint8)
    messages = [message if to in (None, p) else nothing for p in range(world.size)]
    theirs = world.swap_counts(torch.tensor([[len(m)] for m in messages]))
    arrived = world.swap(messages, theirs[:, 0].tolist(), KIND)
    # A memory of its own for each, for alignment.
    return [m.cpu().clone().view(rows.dtype).reshape(-1, *rows.shape[1:]) for m in arrived]


def gathered_json(world: World, value: Any, to: int | None = None) -> list[Any]:
    """Each rank's JSON value; None for one that was sent elsewhere. Collective."""
    message = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    arrived = gathered(world, message, to)
    return [json.loads(bytes(m.numpy())) if len(m) else None for m in arrived]


def summed(world: World, numbers: Tensor) -> Tensor:
    """Σ over ranks, in their order, on every rank: the same bits everywhere. Collective."""
    return torch.stack(gathered(world, numbers[None])).sum(0)[0]
