"""Who runs the step: our backends, and torch with static tables that pay for no hashing.

Sizes: N ids, B bags, R rows, D dim.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recis_core.bench.cases import Bags, ids_of
from recis_core.nn import EmbeddingEngine, EmbeddingOption, NormalInitializer
from recis_core.optim import SparseAdam, SparseSGD
from recis_core.ragged import RaggedTensor

LR = 1e-3


@dataclass
class Competitor:
    """One way to do the step.

    run: seconds of (forward, backward, update, whole). output: one forward's [B, D].
    rows: rows [n, D] of ids [n], by a way of its own.
    """

    name: str
    run: Callable[[], tuple[float, float, float, float]]
    output: Callable[[], Tensor]
    rows: Callable[[Tensor], Tensor]
    first_call_s: float = 0.0
    times: list[tuple[float, float, float, float]] = field(default_factory=list)


def now() -> float:
    """Seconds, once a GPU has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(forward: Callable[[], Tensor], step: Callable[[], None], zero: Callable[[], None], grad: Tensor):  # type: ignore[no-untyped-def]
    """One step's seconds, the loss's gradient given so that only the sparse side is timed."""
    there = grad.to(forward().device)

    def run() -> tuple[float, float, float, float]:
        zero()
        t0 = now()
        out = forward()
        t1 = now()
        out.backward(there)
        t2 = now()
        step()
        t3 = now()
        return t1 - t0, t2 - t1, t3 - t2, t3 - t0

    return run


def embedding_bag(batch: Bags, dim: int, optimizer: str, grad: Tensor) -> Competitor:
    """torch.nn.EmbeddingBag(sparse=True) on indices mapped beforehand."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layer = torch.nn.EmbeddingBag(batch.vocabulary, dim, mode="sum", sparse=True, device=device)
    torch.nn.init.normal_(layer.weight, std=0.01)
    kinds = {"adam": torch.optim.SparseAdam, "sgd": torch.optim.SGD}
    opt = kinds[optimizer](list(layer.parameters()), lr=LR)
    index, offsets = batch.index.to(device), batch.offsets[:-1].to(device)
    forward = lambda: layer(index, offsets)  # noqa: E731
    peer = {"adam": "SparseAdam", "sgd": "SGD"}[optimizer]
    run = timed(forward, opt.step, opt.zero_grad, grad)
    return Competitor(f"torch EmbeddingBag+{peer}", run, forward, lambda index: layer.weight.detach().cpu()[index])


def engine(batch: Bags, dim: int, optimizer: str, grad: Tensor, backend: str) -> Competitor:
    """Our layers as a user runs them: autograd, unbounded ids, finiteness checked at the step."""
    option = EmbeddingOption(dim, backend=backend, block_size=batch.vocabulary, initializer=NormalInitializer(0, 0.01))
    layer = EmbeddingEngine({"f": option})
    opt = {"adam": SparseAdam, "sgd": SparseSGD}[optimizer](layer.sparse_parameters(), lr=LR)
    device = layer.table("f").physical.spec.device
    fill(layer, batch, device)
    ragged = RaggedTensor(batch.ids.to(device), batch.offsets.to(device))
    forward = lambda: layer({"f": ragged})["f"]  # noqa: E731

    def rows(ids: Tensor) -> Tensor:
        table = layer.table("f")
        return table.embeddings().cpu()[torch.searchsorted(table.ids().cpu(), ids)]

    return Competitor(f"recis {backend}", timed(forward, opt.step, opt.zero_grad, grad), forward, rows)


def fill(layer: EmbeddingEngine, batch: Bags, device: str) -> None:
    """Every id of the vocabulary has its row before the clock runs, as in the static table."""
    with torch.no_grad():
        for part in torch.arange(batch.vocabulary).split(1 << 16):
            layer({"f": ids_of(part).to(device)})
