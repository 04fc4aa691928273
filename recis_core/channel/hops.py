"""All-to-all in two hops: inside each node, then between nodes among ranks of one place.

    rank (node a, place i) → (node b, place j):   first to (a, j), with all that is for place j of any node;
                                                  then from (a, j) to (b, j), in one message for the node

Sizes: W ranks, L ranks a node, M nodes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from recis_core.channel.rank_group import RankGroup
from recis_core.uninterrupted import as_one

NODE = "LOCAL_WORLD_SIZE"


class Hops:
    """Groups for both hops. Making them is collective over all ranks of the job.

    Args:
      nodes: from nodes_of.
    """

    def __init__(self, group: RankGroup, nodes: Sequence[Sequence[int]]) -> None:
        self.group, self.nodes, self.places = group, len(nodes), len(nodes[0])
        node, place = divmod(group.rank, self.places)
        inside = [group.another(row) for row in nodes]
        between = [group.another([row[i] for row in nodes]) for i in range(self.places)]
        self.inside, self.between = inside[node], between[place]
        self.sent_between = 0
        self._node, self._place = node, place

    @staticmethod
    def nodes_of(ranks: Sequence[int]) -> list[list[int]]:
        """The ranks of each node.

        Raises:
          ValueError: LOCAL_WORLD_SIZE does not divide the ranks.
        """
        places = int(os.environ.get(NODE, len(ranks)))
        if places < 1 or len(ranks) % places:
            raise ValueError(f"hierarchical exchange needs {NODE} to divide {len(ranks)} ranks; got {places}.")
        return [list(ranks[at : at + places]) for at in range(0, len(ranks), places)]

    @as_one
    def swap(self, messages: Sequence[Tensor]) -> Tensor:
        """uint8 message p to rank p; all that came here, by rank."""
        sizes = self.group.swap_lines(torch.tensor([[len(m) for m in messages]] * len(messages)))  # [W from, W to]
        device = messages[0].device if self.group.device.type == "cpu" else self.group.device
        by_place = [torch.cat([messages[b * self.places + j] for b in range(self.nodes)]) for j in range(self.places)]
        mine = self._node * self.places
        arriving = [int(sizes[mine + i, self._place :: self.places].sum()) for i in range(self.places)]
        here = self._all_to_all(torch.cat(by_place).to(device), arriving, [len(m) for m in by_place], self.inside)
        return self._second(here.split(arriving), sizes)

    def _second(self, here: Sequence[Tensor], sizes: Tensor) -> Tensor:
        """here: from each place of this node, its messages for this place, by node."""
        mine = self._node * self.places
        cut = [part.split(sizes[mine + i, self._place :: self.places].tolist()) for i, part in enumerate(here)]
        by_node = [torch.cat([parts[b] for parts in cut]) for b in range(self.nodes)]
        me = mine + self._place
        arriving = sizes[:, me].reshape(self.nodes, self.places).sum(1).tolist()
        self.sent_between += sum(len(m) for b, m in enumerate(by_node) if b != self._node)
        return self._all_to_all(torch.cat(by_node), arriving, [len(m) for m in by_node], self.between)

    def _all_to_all(self, mine: Tensor, arriving: list[int], leaving: list[int], group: Any) -> Tensor:
        theirs = torch.empty(sum(arriving), dtype=torch.uint8, device=mine.device)
        self.group.wait(self.group.start(dist.all_to_all_single, theirs, mine, arriving, leaving, group=group))
        return theirs
