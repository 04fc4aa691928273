"""A plain loop over batches, for a model with our tables or with nn.Embedding in their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join

Batch = dict[str, Any]


class Both:
    """Adam over dense parameters, and a sparse optimizer of torch over nn.Embedding: one zero_grad, one step."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


def optimizer_of(model: nn.Module, lr: float) -> Any:
    """Adam, sparse for tables and for nn.Embedding(sparse=True)."""
    embeddings = [m.weight for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse]
    of_them = {id(weight) for weight in embeddings}
    dense = torch.optim.Adam([p for p in model.parameters() if id(p) not in of_them], lr=lr)
    if embeddings:
        return Both(dense, torch.optim.SparseAdam(embeddings, lr=lr))
    return join(dense, SparseAdam(filter_out_sparse_param(model), lr=lr))


def fit(model: nn.Module, batches: Iterable[Batch], loss: Callable[[Batch], Tensor], lr: float) -> float:
    """One pass; wall seconds without the first step's, in which loops are compiled or loaded. loss: of a batch, by the model."""
    optimizer = optimizer_of(model, lr)
    model.train()
    start = 0.0
    for batch in batches:
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
        start = start or time.perf_counter()
    return time.perf_counter() - start
