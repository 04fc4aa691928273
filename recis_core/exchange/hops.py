"""All-to-all in two hops: inside each node, then between nodes among ranks of one place.

    rank (node a, place i) → (node b, place j):   first to (a, j), with all that is for place j of any node;
                                                  then from (a, j) to (b, j), in one message for the node

Sizes: W ranks, L ranks a node, M nodes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

NODE = "LOCAL_WORLD_SIZE"


class Hops:
    """Groups for both hops. Making them is collective over all ranks of the job.

    Raises:
      ValueError: LOCAL_WORLD_SIZE does not divide the ranks.
    """

    def __init__(self, ranks: Sequence[int], timeout: timedelta) -> None:
        self.places = int(os.environ.get(NODE, len(ranks)))
        if self.places < 1 or len(ranks) % self.places:
            raise ValueError(f"hierarchical exchange needs {NODE} to divide {len(ranks)} ranks; got {self.places}.")
        self.nodes = len(ranks) // self.places
        node, place = divmod(ranks.index(dist.get_rank()), self.places)
        grid = [list(ranks[a * self.places : (a + 1) * self.places]) for a in range(self.nodes)]
        inside = [dist.new_group(row, timeout=timeout) for row in grid]
        between = [dist.new_group([row[i] for row in grid], timeout=timeout) for i in range(self.places)]
        self.inside, self.between = inside[node], between[place]
        self.sent_between = 0
        self._node, self._place = node, place

    def swap(self, messages: Sequence[Tensor], lengths: Sequence[int], *, group: Any) -> Tensor:
        """uint8 message p to rank p; all that came here, by rank. `group` is that of all ranks."""
        sizes = self._all_sizes(messages, group)  # [W from, W to]
        device = messages[0].device
        if dist.get_backend(group) == "nccl":
            device = torch.device("cuda")
        by_place = [torch.cat([messages[b * self.places + j] for b in range(self.nodes)]) for j in range(self.places)]
        mine = self._node * self.places
        arriving = [int(sizes[mine + i, self._place :: self.places].sum()) for i in range(self.places)]
        here = _all_to_all(torch.cat(by_place).to(device), arriving, [len(m) for m in by_place], self.inside)
        return self._second(here.split(arriving), sizes, device)

    def _second(self, here: Sequence[Tensor], sizes: Tensor, device: torch.device) -> Tensor:
        """here: from each place of this node, its messages for this place, by node."""
        mine = self._node * self.places
        cut = [part.split(sizes[mine + i, self._place :: self.places].tolist()) for i, part in enumerate(here)]
        by_node = [torch.cat([parts[b] for parts in cut]) for b in range(self.nodes)]
        me = mine + self._place
        arriving = sizes[:, me].reshape(self.nodes, self.places).sum(1).tolist()
        self.sent_between += sum(len(m) for b, m in enumerate(by_node) if b != self._node)
        return _all_to_all(torch.cat(by_node), arriving, [len(m) for m in by_node], self.between)

    def _all_sizes(self, messages: Sequence[Tensor], group: Any) -> Tensor:
        device = "cuda" if dist.get_backend(group) == "nccl" else "cpu"
        mine = torch.tensor([[len(m) for m in messages]] * len(messages), device=device)
        everyone = torch.empty_like(mine)
        dist.all_to_all_single(everyone, mine, group=group)
        return everyone.cpu()


def _all_to_all(mine: Tensor, arriving: list[int], leaving: list[int], group: Any) -> Tensor:
    theirs = torch.empty(sum(arriving), dtype=torch.uint8, device=mine.device)
    dist.all_to_all_single(theirs, mine, arriving, leaving, group=group)
    return theirs
