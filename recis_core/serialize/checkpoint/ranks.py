"""A manager's ranks: one channel for calls of the training loop, one for the thread that writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from recis_core.backends.errors import ExchangeFailed, ExchangeMismatch
from recis_core.channel.channel import Channel
from recis_core.channel.rank_group import world_rank, world_size
from recis_core.exchange.gathering import gathered_json


class Ranks:
    """Those of the process group `pg`; None: of the default group, or one process. Making it is collective.

    front: None where there is one rank. back: the same ranks, for calls of another thread in another order.
    """

    def __init__(self, pg: Any = None) -> None:
        self.rank, self.world = world_rank(pg), world_size(pg)
        self.front: Channel | None = None
        self.back: Channel | None = None
        if self.world > 1:
            parent = dist.group.WORLD if pg is None else pg
            self.front = Channel(parent)
            self._second = dist.new_group(dist.get_process_group_ranks(parent), backend="gloo")
            self.back = Channel(self._second)

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """If one rank raises inside, all ranks raise at the end. Collective."""
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        if self.front is not None:
            try:
                self.front.meet("resume", error=failure)
            except (ExchangeMismatch, ExchangeFailed) as theirs:
                failure = failure or theirs
        if failure is not None:
            raise failure

    def any(self, here: bool) -> bool:
        """Whether it is so on any rank. Collective."""
        if self.front is None:
            return here
        counts = torch.full((self.world, 1), int(here))
        return bool(self.front.meet("save", "any", counts).any())

    def first(self, value: Any) -> Any:
        """The first rank's JSON value. Collective."""
        return value if self.front is None else gathered_json(self.front, value, kind="latest")[0]
