"""Competitors: one decoder over our tables, or over nn.Embedding, whose ids are numbers known beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from recis_core.bench.llm.workload import Plan, tables, with_tables
from recis_core.bench.quality.static_engine import StaticEngine
from recis_core.models.llm import DecoderWithTables, shard_decoder
from recis_core.models.llm.feature_options import CANDIDATES
from recis_core.optim import SparseAdam, SparseOptimizer, join

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
    if name == OURS:
        return _over_tables(model, plan, world)
    every = {feature: torch.arange(count) for feature, count in tables(plan).items()}
    model.engine = StaticEngine(model.engine, [{**every, CANDIDATES: every[model.item]}], sparse=name == SPARSE)
    if world > 1:
        from torch.distributed.fsdp import fully_shard

        fully_shard(model.engine)
        shard_decoder(model)
    rows = {id(p): p for p in model.engine.parameters()}
    others = [p for p in model.parameters() if id(p) not in rows]
    if name == PLAIN:
        return Competitor(model, [torch.optim.Adam([*others, *rows.values()], lr=LR)])
    return Competitor(model, [torch.optim.SparseAdam(list(rows.values()), lr=LR), torch.optim.Adam(others, lr=LR)])


@torch.no_grad()
def _over_tables(model: DecoderWithTables, plan: Plan, world: int) -> Competitor:
    for name, count in tables(plan).items():
        model.engine.table(name)(torch.arange(count))  # makes the rows
    if world > 1:
        shard_decoder(model)
    sparse = SparseAdam(model.engine.sparse_parameters(), lr=LR)
    return Competitor(model, [join(torch.optim.Adam(model.parameters(), lr=LR), sparse)], sparse)
