"""What is recorded: a step of an engine with two features, a table each, once its rows are there and all is compiled.

Sizes: N ids of a feature, D dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam, join
from tests.exchange.ranks import run_ranks
from tests.trips.recording import Trip, recorded

N, D = 64, 8
WARM = 3  # steps before the one that is recorded
FEATURES = ("user", "item")

Step = dict[str, Trip]  # by phase


def plain(backend: str) -> Step:
    return step_of({"backend": backend})


def cached(device_rows: int) -> Step:
    """Half of a batch is new, and where it does not fit a quarter has left the device."""
    return step_of({"backend": "numba", "cache": CacheConfig(device_rows=device_rows)}, moves=N // 2)


def two_ranks() -> Step:
    return run_ranks(2, _on_rank)[0]


def _on_rank(rank: int, world: int) -> Step:
    return step_of({"backend": "numba"})


def step_of(option: dict[str, Any], moves: int = 0) -> Step:
    """The trips of a step of both, dense and sparse, after WARM of them. moves: ids of a feature that are new in each step."""
    options = dict.fromkeys(FEATURES, EmbeddingOption(D, device="cpu", **option))
    engine, dense = EmbeddingEngine(options), nn.Linear(2 * D, 1)
    optimizer = join(torch.optim.SGD(dense.parameters(), lr=0.1), SparseAdam(engine.sparse_parameters(), lr=0.1))
    for number in range(WARM + 1):
        batch = {feature: torch.arange(N) + number * moves for feature in FEATURES}
        with recorded() as forward:
            out = engine(batch)
        loss = dense(torch.cat([out[feature] for feature in FEATURES], 1)).sum()
        with recorded() as backward:
            loss.backward()
        with recorded() as step:
            optimizer.step()
    return {"forward": forward, "backward": backward, "step": step}


CASES: dict[str, Callable[[], Step]] = {
    "numba": lambda: plain("numba"),
    "numba, a cache that fits": lambda: cached(16 * N),
    "numba, a cache that overflows": lambda: cached(N // 2),
    "numba, 2 ranks": two_ranks,
    "jax": lambda: plain("jax"),
    "pallas": lambda: plain("pallas"),
}
