"""Random tables and batches, by a seed.

Sizes: F features, B bags, N ids, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Table:
    name: str
    rows: int
    dim: int
    features: tuple[str, ...]
    mean: bool


@dataclass(frozen=True)
class Configuration:
    """Tables, which share features, and whether their inputs have weights. Keys of a batch are in another order, and more."""

    tables: tuple[Table, ...]
    weighted: bool
    keys: tuple[str, ...]

    def configs(self, framework: Any, kind: str) -> list[Any]:
        """The framework's EmbeddingBagConfigs or EmbeddingConfigs."""
        pooling = framework.PoolingType
        more = [
            {"pooling": pooling.MEAN if t.mean else pooling.SUM} if kind == "EmbeddingBagConfig" else {}
            for t in self.tables
        ]
        return [
            getattr(framework, kind)(
                name=t.name, num_embeddings=t.rows, embedding_dim=t.dim, feature_names=list(t.features), **extra
            )
            for t, extra in zip(self.tables, more, strict=True)
        ]

    def batch(self, seed: int, *, all_ids: bool = False) -> dict[str, Any]:
        """Arguments of a KeyedJaggedTensor; bags may be empty, and so may all of them. all_ids: every id of a feature comes."""
        draw = Random(seed)
        bags = draw.randint(1, 6)
        lengths = [[draw.choice((0, 0, 1, 2, 4)) for _ in range(bags)] for _ in self.keys]
        if draw.random() < 0.1:
            lengths = [[0] * bags for _ in self.keys]
        ids = [
            [draw.randrange(self._rows(key)) for _ in range(sum(n))] for key, n in zip(self.keys, lengths, strict=True)
        ]
        if all_ids:
            ids = [list(range(self._rows(key))) for key in self.keys]
            lengths = [[len(i) - 2 * (bags - 1)] + [2] * (bags - 1) for i in ids]
        values = torch.tensor([i for feature in ids for i in feature], dtype=draw.choice((torch.int64, torch.int32)))
        weights = (
            torch.rand(len(values), generator=torch.Generator().manual_seed(seed)) + 0.5 if self.weighted else None
        )
        dtype = draw.choice((torch.int64, torch.int32))
        return {
            "keys": list(self.keys), "values": values, "weights": weights,
            "lengths": torch.tensor(lengths, dtype=dtype).reshape(-1),
        }  # fmt: skip

    def _rows(self, key: str) -> int:
        return min([t.rows for t in self.tables if key in t.features], default=30)


def configuration(seed: int, *, same_dim: bool = False, least_rows: int = 1) -> Configuration:
    """One to four tables; a third of them weighted sums, the others unweighted sums and means."""
    draw = Random(seed)
    names = [f"f{i}" for i in range(draw.randint(1, 5))]
    weighted = not same_dim and draw.random() < 1 / 3
    dim = draw.choice((1, 3, 4, 8, 17))
    tables = tuple(
        Table(
            f"t{i}", draw.randint(least_rows, 30), dim if same_dim else draw.choice((1, 3, 4, 8, 17)),
            tuple(draw.sample(names, draw.randint(1, len(names)))), not weighted and draw.random() < 0.5,
        )
        for i in range(draw.randint(1, 4))
    )  # fmt: skip
    keys = [*names, "unused"]
    draw.shuffle(keys)
    return Configuration(tables, weighted, tuple(keys))


def require_close(ours: Tensor, theirs: Tensor, rtol: float, what: str) -> None:
    """Equal shapes and dtypes, and values to rtol, with atol = rtol · max |expected|."""
    most = float(theirs.abs().max()) if theirs.numel() else 0.0
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol * most, msg=lambda text: f"{what}: {text}")


def gradient_of(table: Any, rows: int) -> Tensor:
    """[rows, D]: the pending gradient of one of our tables; zeros where none is."""
    numbers, values = table.grad()
    ids = {row: i for i, row in table._numbered().items()}
    found = torch.zeros(rows, table.dim)
    for row, value in zip(numbers.tolist(), values, strict=True):
        found[ids[row]] = value
    return found
