"""Bytes of training steps under a codec, counted from the buffers passed to other ranks.

Single-hot ids under a factorization machine without dense parameters: gradients are a model's own, and nothing but
the exchange is on the wire.

Sizes: B rows of a rank's batch, F fields, D dim, W ranks, N ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from recis_core.backends import placement
from recis_core.bench.exchange.workloads import Batch, Workload
from recis_core.exchange import global_mean
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD

ID_BYTES, LR = 8, 0.05


def engine_of(fields: list[str], dim: int, codec: str, seed: int = 0) -> EmbeddingEngine:
    option = EmbeddingOption(dim, seed=seed, precision=codec)
    return EmbeddingEngine(dict.fromkeys(fields, option))


def count(workload: Workload, rank: int, codec: str, dim: int, seed: int) -> dict[str, float]:
    """Means over steps, summed over ranks: bytes each way, of headers, of the baselines, ids. Collective."""
    engine = engine_of(workload.fields, dim, codec, seed)
    optimizer = SparseSGD(engine.sparse_parameters(), lr=LR)
    total: Counter[str] = Counter()
    for number in range(workload.steps):
        batch = workload.step(seed, number, rank)
        total.update(step_bytes(engine, optimizer, batch, workload.fields))
        total.update(off_rank(engine, batch, workload.fields, rank))
    names = sorted(total)
    summed = torch.tensor([total[name] for name in names], dtype=torch.float64)
    dist.all_reduce(summed)
    found = dict(zip(names, (summed / workload.steps).tolist(), strict=True))
    return found | baselines(found, dim)


def step_bytes(engine: EmbeddingEngine, optimizer: Any, batch: Batch, fields: list[str]) -> dict[str, int]:
    """One training step; what this rank sent in it. Collective."""
    before = _sent(engine)
    rows = engine({name: batch[name] for name in fields})
    between = _sent(engine)
    logits = interactions(torch.stack([rows[name] for name in fields], dim=1))
    loss = F.binary_cross_entropy_with_logits(logits, batch["label"], reduction="sum")
    optimizer.zero_grad()
    global_mean(loss, len(logits)).backward()
    optimizer.step()
    after = _sent(engine)
    return {
        "forward_bytes": sum((between - before).values()),
        "backward_bytes": sum((after - between).values()),
        **{f"{what}_bytes": n for what, n in (after - before).items()},
    }


def interactions(v: Tensor) -> Tensor:
    """Σ_{f<g} <v_f, v_g> of [B, F, D]."""
    return 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)


def _sent(engine: EmbeddingEngine) -> Counter[str]:
    return Counter(engine.exchange.channel.sent)  # type: ignore[union-attr]


def off_rank(engine: EmbeddingEngine, batch: Batch, fields: list[str], rank: int) -> dict[str, int]:
    """This rank's ids whose rows live on another rank, with and without repeats."""
    occurrences = unique = 0
    for name in fields:
        ids = batch[name].values().numpy()
        away = ids[owners(engine, name, ids) != rank]
        occurrences, unique = occurrences + len(away), unique + len(np.unique(away))
    return {"occurrences": occurrences, "unique": unique}


def owners(engine: EmbeddingEngine, name: str, ids: np.ndarray) -> np.ndarray:
    """int64 [N]: ranks by slice, from the placement alone."""
    physical = engine.table(name).physical
    uid = physical.spec.uids[physical.names.index(name)]
    slices = placement.slices(ids, np.array(uid, np.uint32)).astype(np.int64)
    return slices * dist.get_world_size() >> placement.SLICE_BITS


def baselines(found: Mapping[str, float], dim: int) -> dict[str, float]:
    """An int64 id and a float32 row forward, an int64 id and a float32 gradient backward: of every id, or unique."""
    both_ways = 2 * (ID_BYTES + 4 * dim)
    return {
        "baseline_bytes": both_ways * found["occurrences"],
        "deduped_baseline_bytes": both_ways * found["unique"],
    }
