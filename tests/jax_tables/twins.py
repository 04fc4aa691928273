"""One small model trained on both sides: bags of ids, a linear tower, Adam on both parts.

Sizes: N ids (padded), B bags, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import Tensor

import recis_core.jax as rj
from recis_core.backends import Snapshot
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam

N, B, D = 64, 16, 8
LR = 0.05
CONFIG = rj.TableConfig("item", D, rj.Adam(lr=LR), rows=200, seed=3)
DENSE = optax.adam(0.01)


@dataclass(frozen=True)
class Batch:
    ids: np.ndarray  # int64 [n], n <= N
    offsets: np.ndarray  # int64 [B + 1]
    target: np.ndarray  # float32 [B]


def batches(count: int, seed: int = 0, universe: int = 2000) -> list[Batch]:
    """Repeated ids of all 64 bits, negative ones among them, in bags some of which are empty. A target is of its ids."""
    random, truth = np.random.default_rng(seed), np.random.default_rng(8).normal(size=universe)
    ids = np.random.default_rng(7).integers(-(2**63), 2**63, universe, dtype=np.int64)

    def batch() -> Batch:
        lengths = random.integers(0, N // B + 1, B)
        picked = np.minimum(random.zipf(1.1, lengths.sum()) - 1, universe - 1)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        target = [truth[picked[beg:end]].sum() for beg, end in pairwise(offsets)]
        return Batch(ids[picked], offsets, np.array(target, np.float32))

    return [batch() for _ in range(count)]


@partial(jax.jit, donate_argnums=(0, 1, 2))
def step(state: rj.TableState, dense: Any, moments: Any, words: Any, offsets: Any, target: Any) -> Any:
    """Everything of one training step in one program."""
    state, rows, ticket = rj.lookup(state, words, jnp.arange(N) < offsets[-1])

    def loss_of(rows: jax.Array, dense: Any) -> jax.Array:
        out = rj.pool(rows, offsets, combiner="mean") @ dense["weight"] + dense["bias"]
        return ((out - target) ** 2).mean()

    loss, (to_rows, to_dense) = jax.value_and_grad(loss_of, argnums=(0, 1))(rows, dense)
    changes, moments = DENSE.update(to_dense, moments)
    return rj.update(state, ticket, to_rows), optax.apply_updates(dense, changes), moments, loss


class JaxTwin:
    def __init__(self, state: rj.TableState | None = None) -> None:
        self.state = rj.create(CONFIG) if state is None else state
        self.dense = {"weight": jnp.full(D, 0.5, jnp.float32), "bias": jnp.zeros(())}
        self.moments = DENSE.init(self.dense)

    def train(self, batches: list[Batch]) -> list[float]:
        return [self._step(batch) for batch in batches]

    def _step(self, batch: Batch) -> float:
        state = rj.reserve(self.state, len(batch.ids))
        words, _ = rj.padded(batch.ids, N)
        offsets = jnp.asarray(batch.offsets.astype(np.int32))
        self.state, self.dense, self.moments, loss = step(state, self.dense, self.moments, words, offsets, batch.target)
        return float(loss)


class TorchTwin:
    def __init__(self, backend: str = "torch") -> None:
        option = EmbeddingOption(D, block_size=200, seed=3, combiner="mean", backend=backend)
        self.engine = EmbeddingEngine({"item": option})
        self.tower = torch.nn.Linear(D, 1)
        torch.nn.init.constant_(self.tower.weight, 0.5)
        torch.nn.init.zeros_(self.tower.bias)
        self.sparse = SparseAdam(self.engine.sparse_parameters(), lr=LR)
        self.dense = torch.optim.Adam(self.tower.parameters(), lr=0.01)

    @property
    def table(self) -> Any:
        return self.engine.sparse_parameters()["item"]

    def train(self, batches: list[Batch]) -> list[float]:
        return [self._step(batch) for batch in batches]

    def _step(self, batch: Batch) -> float:
        from recis_core.ragged import RaggedTensor

        ids = RaggedTensor(torch.from_numpy(batch.ids), torch.from_numpy(batch.offsets))
        out = self.tower(self.engine({"item": ids})["item"])[:, 0]
        loss = ((out - torch.from_numpy(batch.target)) ** 2).mean()
        self.dense.zero_grad()
        loss.backward()
        self.sparse.step()
        self.dense.step()
        return loss.item()

    def snapshot(self) -> Snapshot:
        return self.table.physical.export()


PLACES = ("ids", "tables", "slot_numbers", "row_numbers", "scores", "stamps", "free_rows")


def assert_same(ours: Snapshot, theirs: Snapshot, *, rtol: float = 1e-5, places: bool = True) -> None:
    """Equal keys and placement; rows and slots within rtol of the largest value."""
    for name in PLACES if places else PLACES[:2]:
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert not places or (ours.next_row, ours.buckets) == (theirs.next_row, theirs.buckets)
    close("weights", ours.weights, theirs.weights, rtol)
    assert ours.slots.keys() == theirs.slots.keys()
    for name, values in ours.slots.items():
        close(name, values, theirs.slots[name], rtol)


def close(name: str, ours: Tensor, theirs: Tensor, rtol: float) -> None:
    assert ours.shape == theirs.shape, name
    most = float(theirs.abs().max()) if theirs.numel() else 0.0
    off = float((ours - theirs).abs().max()) if theirs.numel() else 0.0
    assert off <= rtol * most, f"{name}: off by {off} of {most}"
