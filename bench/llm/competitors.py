"""Competitors: one decoder over our tables, or over nn.Embedding, whose ids are numbers known beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.bench.llm.workload import Plan, tables, with_tables
from recis_core.models.llm import DecoderWithTables, shard_decoder
from recis_core.optim import SparseAdam, SparseOptimizer, join
from recis_core.ragged import RaggedTensor

OURS, PLAIN, SPARSE = "our tables", "nn.Embedding", "nn.Embedding(sparse=True)"
COMPETITORS = ((OURS, 1), (PLAIN, 1), (SPARSE, 1), (OURS, 2), (PLAIN, 2))  # FSDP2 takes no sparse gradients
LR = 1e-3


@dataclass(frozen=True)
class Competitor:
    """sparse: the optimizer of our tables, else None. optimizers: what is stepped, in order."""

    model: DecoderWithTables
    optimizers: list[torch.optim.Optimizer]
    sparse: SparseOptimizer | None = None


def competitor(name: str, plan: Plan, world: int) -> Competitor:
    """Every id has its row already, of the same values for all. Collective."""
    model = with_tables(plan)
    first = {name: _all_rows(model, name, count) for name, count in tables(plan).items()}
    if name == OURS:
        return _over_tables(model, world)
    model.engine = PlainRows(first, model.item, sparse=name == SPARSE)  # type: ignore[assignment]
    if world > 1:
        from torch.distributed.fsdp import fully_shard

        fully_shard(model.engine)
        shard_decoder(model)
    rows = {id(p): p for p in model.engine.parameters()}
    others = [p for p in model.parameters() if id(p) not in rows]
    if name == PLAIN:
        return Competitor(model, [torch.optim.Adam([*others, *rows.values()], lr=LR)])
    return Competitor(model, [torch.optim.SparseAdam(list(rows.values()), lr=LR), torch.optim.Adam(others, lr=LR)])


def _over_tables(model: DecoderWithTables, world: int) -> Competitor:
    if world > 1:
        shard_decoder(model)
    sparse = SparseAdam(model.engine.sparse_parameters(), lr=LR)
    return Competitor(model, [join(torch.optim.Adam(model.parameters(), lr=LR), sparse)], sparse)


@torch.no_grad()
def _all_rows(model: DecoderWithTables, name: str, count: int) -> Tensor:
    """Makes them, on all ranks."""
    return model.engine.table(name)(torch.arange(count))


class PlainRows(nn.Module):
    """In an engine's place: an nn.Embedding of each table's rows."""

    exchange = None  # a rank reads whole tables, which FSDP2 gathers

    def __init__(self, rows: Mapping[str, Tensor], item: str, *, sparse: bool) -> None:
        super().__init__()
        self.item = item
        self.rows = nn.ModuleDict(
            {name: nn.Embedding.from_pretrained(first, freeze=False, sparse=sparse) for name, first in rows.items()}
        )

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, RaggedTensor]:
        """As an engine gives them with combiner "none"; candidates are items."""
        found = {}
        for name, ids in features.items():
            table: Any = self.rows[name] if name in self.rows else self.rows[self.item]
            rows = table(ids.flatten())
            found[name] = RaggedTensor.trusted(rows, [torch.tensor([0, len(rows)])])
        return found
