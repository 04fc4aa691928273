"""Batches, models and training runs that tests of the exchange share.

Sizes: B rows of a batch, W ranks, F features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recis_core.nn import EmbeddingEngine, EmbeddingOption, UniformInitializer
from recis_core.optim import SparseAdam, SparseSGD, join
from recis_core.ragged import RaggedTensor

FEATURES = ("user", "item", "tags", "history")
VOCABULARY = {"user": 200, "item": 100, "tags": 60, "history": 100}
B = 24

Batch = dict[str, Any]


def batch(step: int, rows: slice = slice(0, B), size: int = B) -> Batch:
    """Rows of the global batch of a step: ids of all signs and sizes, a ragged and a weighted ragged feature."""
    rng = np.random.default_rng(1000 + step)
    out: Batch = {}
    for name in FEATURES[:2]:
        out[name] = torch.from_numpy(_ids(name, rng, size))[rows]
    for name in FEATURES[2:]:
        lengths = rng.integers(0, 5, size)
        ids, weights = _ids(name, rng, lengths.sum()), rng.random(lengths.sum()).astype(np.float32)
        out[name] = _ragged(ids, weights if name == "history" else None, lengths, rows)
    out["label"] = torch.from_numpy(rng.integers(0, 2, size).astype(np.float32))[rows]
    return out


def _ids(name: str, rng: np.random.Generator, count: int) -> np.ndarray:
    values = np.minimum(rng.zipf(1.2, count), VOCABULARY[name]).astype(np.int64)
    return values * (2**55 + 12345) * np.where(values % 3 == 0, -1, 1)


def _ragged(ids: np.ndarray, weights: np.ndarray | None, lengths: np.ndarray, rows: slice) -> RaggedTensor:
    ends = np.concatenate([[0], np.cumsum(lengths)])
    chosen = range(*rows.indices(len(lengths)))
    beg, end = (ends[chosen[0]], ends[chosen[-1] + 1]) if len(chosen) else (0, 0)
    offsets = torch.from_numpy(ends[[*chosen, chosen[-1] + 1]] - beg) if len(chosen) else torch.zeros(1).long()
    weight = None if weights is None else torch.from_numpy(weights[beg:end].copy())
    return RaggedTensor(torch.from_numpy(ids[beg:end].copy()), offsets, weight=weight)


def share(rank: int, world: int, size: int = B) -> slice:
    """This rank's rows of a global batch, in order."""
    return slice(rank * size // world, (rank + 1) * size // world)


class Model(nn.Module):
    """Four features, one of them sharing a table, under a small tower."""

    def __init__(self, dim: int = 8, **option: Any) -> None:
        super().__init__()

        def make(**more: Any) -> EmbeddingOption:
            return EmbeddingOption(dim, initializer=UniformInitializer(-0.3, 0.3), **option | more)

        self.engine = EmbeddingEngine(
            {
                "user": make(),
                "item": make(),
                "tags": make(combiner="mean"),
                "history": make(combiner="sqrtn", shared_name="item"),
            }
        )
        torch.manual_seed(0)
        self.tower = nn.Sequential(nn.Linear(4 * dim, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, features: Batch) -> Tensor:
        out = self.engine({name: features[name] for name in FEATURES})
        return self.tower(torch.cat([out[name] for name in FEATURES], dim=1)).squeeze(1)


def optimizer_of(model: nn.Module, kind: str = "adam", lr: float = 0.05) -> Any:
    sparse = {"adam": SparseAdam, "sgd": SparseSGD}[kind]
    tables = next(m for m in model.modules() if isinstance(m, EmbeddingEngine)).sparse_parameters()
    return join(torch.optim.SGD(model.parameters(), lr=0.1), sparse(tables, lr=lr))


def rows_of(model: nn.Module) -> dict[str, dict[int, np.ndarray]]:
    """{table: {id: row and slots}} of what is on this rank."""
    tables = next(m for m in model.modules() if isinstance(m, EmbeddingEngine)).sparse_parameters()
    found = {}
    for name, table in tables.items():
        snapshot = table.snapshot()
        slots = [snapshot.slots[s] for s in sorted(snapshot.slots) if s != "forward_residual"]
        parts = torch.cat([snapshot.weights.float(), *slots], 1).numpy()
        found[name] = dict(zip(snapshot.ids.tolist(), parts, strict=True))
    return found


def united(ranks: list[dict[str, dict[int, np.ndarray]]]) -> dict[str, dict[int, np.ndarray]]:
    """All ranks' rows; a row on two of them is an error."""
    whole: dict[str, dict[int, np.ndarray]] = {}
    for found in ranks:
        for name, rows in found.items():
            mine = whole.setdefault(name, {})
            assert not mine.keys() & rows.keys(), f"rows of {name} on two ranks"
            mine.update(rows)
    return whole


def assert_same_tables(got: dict, want: dict, rtol: float = 1e-5) -> None:
    """Same ids; values within rtol of the table's largest."""
    assert got.keys() == want.keys()
    for name in want:
        assert got[name].keys() == want[name].keys(), f"{name}: other ids"
        ids = sorted(want[name])
        a, b = (np.stack([t[name][i] for i in ids]) for t in (got, want))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(), err_msg=name)
