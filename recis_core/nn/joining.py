"""torch's Join for engines and optimizers: a rank whose data has ended shadows the others' collectives.

    with Join([engine, optimizer]):     # in this order, as a step runs
        for batch in batches: …

Each step of the others is one forward of the engine and one step of the optimizer here, without data.

Not beside DDP: its own shadow waits for a backward of the others, whose forward waits for the engine's, inside it.
There, and wherever losses are global means, `in_step` keeps all ranks stepping.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.algorithms.join import JoinHook

from recis_core.backends.errors import RecisError
from recis_core.ragged import RaggedTensor

if TYPE_CHECKING:
    from recis_core.channel.channel import Channel
    from recis_core.nn import EmbeddingEngine
    from recis_core.table.exchange_interface import Exchange


class ForwardShadow(JoinHook):
    """Runs the engine's forward without ids."""

    def __init__(self, engine: EmbeddingEngine) -> None:
        self.engine = engine
        self.nothing = {name: _no_rows(engine, name) for name in engine.options}

    def main_hook(self) -> None:
        self.engine._embed(self.engine, self.nothing)  # not the call, which would count this rank as one with data


class StepShadow(JoinHook):
    """Runs the sparse step: rows that live here get the other ranks' gradients."""

    def __init__(self, sparse: Any) -> None:
        self.sparse = sparse

    def main_hook(self) -> None:
        self.sparse.step()
        self.sparse.zero_grad()


def _no_rows(engine: EmbeddingEngine, feature: str) -> RaggedTensor:
    device = engine._table_of(feature).physical.device
    return RaggedTensor(
        torch.zeros(0, dtype=torch.int64, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    )


def channel_of(exchange: Exchange | None) -> Channel:
    """The channel of the ranks that a Join counts.

    Raises:
      RecisError: tables are on one rank, where there is nothing to join.
    """
    if exchange is None:
        raise RecisError("Join is for tables of several ranks; this process group has one.")
    return exchange.channel


def names_here(names: Iterable[str], exchange: Exchange | None) -> list[str]:
    """Names of attributes without those that a Join asks for where there is nothing to join: tools that read every
    attribute of a module, as torch.jit.trace, would fail."""
    here = list(names)
    return (
        here if exchange is not None else [name for name in here if name not in ("join_device", "join_process_group")]
    )
