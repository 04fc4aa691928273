"""torch's Join for engines and optimizers: a rank without data left takes part in the others' collectives.

    with Join([engine, optimizer]):     # in this order, as a step runs
        for batch in batches: …

For each step of the other ranks, this rank runs one forward of the engine and one step of the optimizer, without data.

Join does not work with DDP: DDP's hook waits for the other ranks' backward, while their forward waits for the engine of
this rank. With DDP, and where losses are global means, use `in_step`, by which all ranks make all steps.
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
        self.engine._embed(self.engine, self.nothing)  # calling the engine would count this rank as one with data


class StepShadow(JoinHook):
    """Runs the sparse step: this rank's rows get the other ranks' gradients."""

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
    """The channel of the ranks that Join counts.

    Raises:
      RecisError: the process group has one rank.
    """
    if exchange is None:
        raise RecisError("Join is for tables of several ranks; this process group has one.")
    return exchange.channel


def names_here(names: Iterable[str], exchange: Exchange | None) -> list[str]:
    """Attribute names; with one rank without those of Join, which raise there. torch.jit.trace reads every attribute."""
    here = list(names)
    return (
        here if exchange is not None else [name for name in here if name not in ("join_device", "join_process_group")]
    )
