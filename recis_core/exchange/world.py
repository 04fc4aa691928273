"""The ranks that share one engine's tables: the channel they speak over, and the bytes that went over it.

Sizes: W ranks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from recis_core.exchange.agreement import Agreement, digest
from recis_core.exchange.channel import TIMEOUT, channel_of, known_channel, timeout
from recis_core.exchange.hops import Hops

__all__ = ["TIMEOUT", "Swap", "World", "sum_over_ranks", "timeout", "world_rank", "world_size"]


def world_size(pg: Any = None) -> int:
    """Ranks of the group; 1 where torch.distributed is not running."""
    return dist.get_world_size(pg) if dist.is_available() and dist.is_initialized() else 1


def world_rank(pg: Any = None) -> int:
    """This process's place in the group; 0 where torch.distributed is not running."""
    return dist.get_rank(pg) if dist.is_available() and dist.is_initialized() else 0


def sum_over_ranks(kind: str, number: Tensor, pg: Any = None) -> int:
    """Σ of a 0-d int64. Collective; kind: of which call, one of agreement.KINDS.

    Over the channel of the group. One that is not of the whole job and has no engine has none, for making one takes the
    whole job.
    """
    parent = dist.group.WORLD if pg is None else pg
    if parent is not dist.group.WORLD and known_channel(parent) is None:
        device = "cuda" if dist.get_backend(parent) == "nccl" else "cpu"
        total = number.to(device, torch.int64).reshape(1).clone()
        dist.all_reduce(total, group=parent)
        return int(total)
    channel = channel_of(parent)
    counts = number.cpu().long().reshape(1, 1).expand(channel.size, 1)
    return int(Agreement(channel, channel.sent).meet(kind, counts=counts).sum())


class World:
    """A process group of our own, so that no collective of the dense side can meet one of ours.

    Making one is collective over the group. A rank that never comes, or dies, is an ExchangeFailed on the others
    after RECIS_EXCHANGE_TIMEOUT seconds (600).

    Args:
      pg: whose ranks; None is the default group.
      hierarchical: exchange inside a node first, then between nodes, so that a link between nodes carries
        few large messages. A node is LOCAL_WORLD_SIZE consecutive ranks.
    """

    def __init__(self, pg: Any = None, *, hierarchical: bool = False) -> None:
        self.parent = dist.group.WORLD if pg is None else pg
        self.channel = channel_of(self.parent)
        self.rank, self.size, self.device = self.channel.rank, self.channel.size, self.channel.device
        self.sent: Counter[str] = Counter()
        self.agreement = Agreement(self.channel, self.sent)
        with self.agreement.telling("engine"):
            # First, for it may refuse the ranks; one that leaves while others join a group breaks that off.
            nodes = Hops.nodes_of(self.channel.ranks) if hierarchical else None
        self.agreement.meet("engine", digest(nodes))
        self.hops = None if nodes is None else Hops(self.channel, nodes)

    def swap(self, messages: Sequence[Tensor], lengths: Sequence[int], what: str) -> list[Tensor]:
        """uint8 message p to rank p; what rank p sent here, of lengths[p] bytes. `what` names it in `sent`."""
        return self.finish(self.start(messages, lengths, what))

    def start(self, messages: Sequence[Tensor], lengths: Sequence[int], what: str) -> Swap:
        """Begin a swap, of lengths that ranks have agreed on; `finish` waits for it."""
        self.sent[what] += sum(len(m) for p, m in enumerate(messages) if p != self.rank)
        if self.hops is not None:
            return Swap(None, self.hops.swap(messages), lengths)
        mine = torch.cat(list(messages)).to(self.device)
        theirs = torch.empty(sum(lengths), dtype=torch.uint8, device=self.device)
        splits = list(lengths), [len(m) for m in messages]
        return Swap(self.channel.start(dist.all_to_all_single, theirs, mine, *splits), theirs, lengths, mine)

    def finish(self, swap: Swap) -> list[Tensor]:
        """What came, by rank. A second call gives the same."""
        if swap.work is not None:
            self.channel.wait(swap.work)
            swap.work = swap.mine = None
        return list(swap.theirs.split(list(swap.lengths)))


class Swap:
    """A swap under way; it keeps what is being sent alive."""

    def __init__(self, work: Any, theirs: Tensor, lengths: Sequence[int], mine: Tensor | None = None) -> None:
        self.work, self.theirs, self.lengths, self.mine = work, theirs, lengths, mine
