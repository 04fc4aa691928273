"""What a hook does on the first rank alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from recis_core.hooks.run import Run
from recis_core.nn.hash_table import exchange_of


def failing_together(run: Run) -> AbstractContextManager[None]:
    """Inside, an error of this rank is raised on the others too, in whatever call they wait; without one, nothing is sent."""
    exchange = exchange_of(run.model)
    return nullcontext() if exchange is None else exchange.channel.failing_together("hook")
