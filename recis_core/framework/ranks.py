"""The ranks that train one model together, and what they tell each other between steps.

Sizes: W ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.backends.errors import RecisError
from recis_core.channel.rank_group import world_size
from recis_core.exchange.gathering import gathered, summed
from recis_core.nn.hash_table import exchange_of


class Ranks:
    """Those of the exchange of a model's tables; one process alone without an exchange.

    exchange, channel: None where one process trains alone. Each method is collective.

    Raises:
      RecisError: torch.distributed runs several ranks, and the model's tables are of one process each.
    """

    def __init__(self, model: nn.Module) -> None:
        self.exchange = exchange_of(model)
        self.channel = None if self.exchange is None else self.exchange.channel
        self.rank, self.world = (0, 1) if self.channel is None else (self.channel.rank, self.channel.size)
        if self.channel is None and world_size() > 1:
            raise RecisError(
                f"torch.distributed runs {world_size()} ranks, and this model's tables are not shared by them. Make the "
                "model's EmbeddingEngine after init_process_group()."
            )

    @property
    def group(self) -> Any:
        """The user's process group; None is the default one."""
        return None if self.channel is None else self.channel.parent

    def lines(self, kind: str, counts: Sequence[int]) -> Tensor:
        """Each rank's counts, int64 [W, len(counts)]; kind: of the call, one of agreement.KINDS."""
        mine = torch.tensor([counts])
        return mine if self.channel is None else self.channel.meet(kind, counts=mine.expand(self.world, -1))

    def summed(self, numbers: Tensor, kind: str = "log") -> Tensor:
        """Σ over ranks of float64 [n], in their order: the same bits on every rank."""
        return numbers if self.channel is None else summed(self.channel, numbers.cpu(), kind)

    def gathered(self, rows: Tensor, kind: str = "gather") -> list[Tensor]:
        """Each rank's [n, …], of any n, on the CPU."""
        return [rows.cpu()] if self.channel is None else gathered(self.channel, rows, kind=kind)
