"""The ranks that share tables: a process group of their own, and the bytes that went over it.

Sizes: W ranks.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from backends.errors import ExchangeFailed
from recis_core.exchange.hops import Hops

TIMEOUT = "RECIS_EXCHANGE_TIMEOUT"


def timeout() -> float:
    """Seconds to wait for another rank."""
    return float(os.environ.get(TIMEOUT, "600"))


def world_size(pg: Any = None) -> int:
    """Ranks of the group; 1 where torch.distributed is not running."""
    return dist.get_world_size(pg) if dist.is_available() and dist.is_initialized() else 1


def world_rank(pg: Any = None) -> int:
    """This process's place in the group; 0 where torch.distributed is not running."""
    return dist.get_rank(pg) if dist.is_available() and dist.is_initialized() else 0


class World:
    """A process group of this exchange alone, so that no collective of the dense side can meet one of ours.

    Making one is collective over the group. A rank that never comes, or dies, is an ExchangeFailed on the others
    after RECIS_EXCHANGE_TIMEOUT seconds (600).

    Args:
      pg: whose ranks; None is the default group.
      hierarchical: exchange inside a node first, then between nodes, so that a link between nodes carries
        few large messages. A node is LOCAL_WORLD_SIZE consecutive ranks.
    """

    def __init__(self, pg: Any = None, *, hierarchical: bool = False) -> None:
        self.parent = dist.group.WORLD if pg is None else pg
        ranks = dist.get_process_group_ranks(self.parent)
        limit = timedelta(seconds=timeout())
        # First, for it may refuse the ranks; one that leaves while others join a group breaks that off.
        self.hops = Hops(ranks, limit) if hierarchical else None
        self.group = dist.new_group(ranks, timeout=limit)
        self.rank, self.size = ranks.index(dist.get_rank()), len(ranks)
        self.device = torch.device("cuda" if dist.get_backend(self.group) == "nccl" else "cpu")
        self.sent: Counter[str] = Counter()

    def swap_counts(self, counts: Tensor) -> Tensor:
        """Row p of int64 [W, C] to rank p; row p of the result is what rank p sent here. On the CPU."""
        mine = counts.to(self.device)
        theirs = torch.empty_like(mine)
        self._call(dist.all_to_all_single, theirs, mine)
        self.sent["header"] += mine[0].nbytes * (self.size - 1)
        return theirs.cpu()

    def swap(self, messages: Sequence[Tensor], lengths: Sequence[int], what: str) -> list[Tensor]:
        """uint8 message p to rank p; what rank p sent here, of lengths[p] bytes. `what` names it in `sent`."""
        return self.finish(self.start(messages, lengths, what))

    def start(self, messages: Sequence[Tensor], lengths: Sequence[int], what: str) -> Swap:
        """Begin a swap; `finish` waits for it."""
        self.sent[what] += sum(len(m) for p, m in enumerate(messages) if p != self.rank)
        if self.hops is not None:
            return Swap(None, self._call(self.hops.swap, messages, lengths), lengths)
        mine = torch.cat(list(messages)).to(self.device)
        theirs = torch.empty(sum(lengths), dtype=torch.uint8, device=self.device)
        splits = list(lengths), [len(m) for m in messages]
        work = self._call(dist.all_to_all_single, theirs, mine, *splits, async_op=True)
        return Swap(work, theirs, lengths, mine)

    def finish(self, swap: Swap) -> list[Tensor]:
        if swap.work is not None:
            _guarded(swap.work.wait)
        return list(swap.theirs.split(list(swap.lengths)))

    def _call(self, collective: Any, *args: Any, **kwargs: Any) -> Any:
        return _guarded(collective, *args, group=self.group, **kwargs)


class Swap:
    """A swap under way; it keeps what is being sent alive."""

    def __init__(self, work: Any, theirs: Tensor, lengths: Sequence[int], mine: Tensor | None = None) -> None:
        self.work, self.theirs, self.lengths, self.mine = work, theirs, lengths, mine


def _guarded(collective: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return collective(*args, **kwargs)
    except RuntimeError as error:
        raise ExchangeFailed(
            f"the exchange between ranks broke off: {error}. A rank has died, left early or waits elsewhere; "
            f"{TIMEOUT} (seconds) says how long to wait for one. Restart from the last checkpoint "
            "(torchrun --max-restarts does)."
        ) from error
