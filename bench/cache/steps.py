"""Whole training steps, a table in tiers beside the same table all in memory.

A step is embedding, a small dense model, its loss, backward, SparseAdam and Adam. One pass over a trace's batches checks that
losses and tables have the same bits; then all run further passes in turns, each timed whole, reading ahead included.

Sizes: F fields, B rows of a batch, D dim.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.backends.tier_loops.loop_threads import loop_threads
from recis_core.bench.cache.traces import Batch, Trace
from recis_core.models.mlp import mlp
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.nn.prefetcher import Prefetcher
from recis_core.optim import SparseAdam
from recis_core.options.cache_config import CacheConfig
from recis_core.table.tiers.tiered_state import TieredState

HIDDEN = (128, 64)  # as DeepFM's, if nothing else is said
LR = 1e-3


@dataclass(frozen=True)
class Case:
    """depth: batches that a Prefetcher reads ahead. threads: of training's loops beside it; None for all."""

    name: str
    cache: CacheConfig | None
    depth: int = 0
    threads: int | None = None


@dataclass
class Trainer:
    """One table and its model. Passes go on where the last one ended."""

    case: Case
    trace: Trace
    dim: int
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        shared = "item" if self.trace.shared else None
        option = EmbeddingOption(self.dim, backend="numba", cache=self.case.cache, shared_name=shared)
        self.engine = EmbeddingEngine(dict.fromkeys(self.trace.fields, option))
        torch.manual_seed(0)
        self.dense = mlp([len(self.trace.fields) * self.dim, *HIDDEN, 1])
        self.sparse = SparseAdam(self.engine.sparse_parameters(), lr=LR)
        self.adam = torch.optim.Adam(self.dense.parameters(), lr=LR)

    def pass_(self) -> list[Tensor]:
        """Losses of one pass over the trace; its seconds go on the list."""
        start = time.perf_counter()
        losses = [self.step(batch) for batch in self._batches()]
        self.seconds.append(time.perf_counter() - start)
        return losses

    def _batches(self) -> Iterable[Batch]:
        reader = iter(self.trace.batches)
        return (
            reader
            if not self.case.depth
            else Prefetcher(self.engine, _given(reader), self.case.depth, threads=self.case.threads)
        )

    def step(self, batch: Batch) -> Tensor:
        out = self.engine(batch)
        logits = self.dense(torch.cat([out[name] for name in self.trace.fields], 1))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.25))
        loss.backward()
        self.sparse.step()
        self.adam.step()
        self.sparse.zero_grad()
        self.adam.zero_grad()
        return loss.detach()

    @property
    def tiers(self) -> TieredState | None:
        return next(iter(self.engine.sparse_parameters().values())).physical.storage.tiers

    def close(self) -> None:
        if self.tiers is not None:
            self.tiers.close()


def _given(reader: Iterator[Batch]) -> Iterator[Batch]:
    yield from reader


def compare(trace: Trace, dim: int, cases: list[Case], turns: int) -> list[dict[str, Any]]:
    """One row a case, the first of them all in memory.

    Raises:
      AssertionError: a case trains other bits than the first.
    """
    trainers = [Trainer(case, trace, dim) for case in cases]
    with loop_threads(1):  # torch's dense layers may give other bits on others
        losses = [trainer.pass_() for trainer in trainers]
    for trainer, got in zip(trainers[1:], losses[1:], strict=True):
        check(trainers[0], trainer, losses[0], got)
    gc.collect()
    for _ in range(turns):
        for trainer in trainers:
            trainer.pass_()
    found = [_measured(trainer, trainers[0]) for trainer in trainers]
    for trainer in trainers:
        trainer.close()
    return found


def check(memory: Trainer, other: Trainer, want: list[Tensor], got: list[Tensor]) -> None:
    if not torch.equal(torch.stack(want), torch.stack(got)):
        raise AssertionError(f"{other.case.name}: other losses than in memory.")
    for name, table in memory.engine.sparse_parameters().items():
        mine, theirs = table.snapshot(), other.engine.table(name).snapshot()
        same = torch.equal(mine.ids, theirs.ids) and torch.equal(mine.weights, theirs.weights)
        if not same or any(not torch.equal(mine.slots[slot], theirs.slots[slot]) for slot in mine.slots):
            raise AssertionError(f"{other.case.name}: table {name!r} differs from the one in memory.")


def _measured(trainer: Trainer, memory: Trainer) -> dict[str, Any]:
    """The first pass, compilation and new rows, is not among the times."""
    steps = len(trainer.trace.batches)
    mine, theirs = trainer.seconds[1:], memory.seconds[1:]
    tiers = trainer.tiers
    return {
        "name": trainer.case.name,
        "depth": trainer.case.depth,
        "loop_threads": trainer.case.threads or torch.get_num_threads(),
        "step_ms": 1e3 * statistics.median(mine) / steps,
        "step_min_ms": 1e3 * min(mine) / steps,
        "in_memory_ms": 1e3 * statistics.median(theirs) / steps,
        "ratio": statistics.median(a / b for a, b in zip(mine, theirs, strict=True)),
        "turns": len(mine),
        "hits_on_arrival": None if tiers is None else tiers.stats.hit_rate,
        "stalled_ms": None if tiers is None else 1e3 * tiers.stats.stall_seconds / (steps * len(trainer.seconds)),
    }
