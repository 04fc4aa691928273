"""Trains a model of one's own on one's own Parquet file, evaluates it, and saves it.

    python examples/own_parquet.py --file clicks.parquet --test test.parquet

The files have the columns user (text), item and tags (an integer, and lists of them), price (a number), and click (0 or 1); any
nulls. Without --file two such files are made first.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from recis_core.framework import Trainer, TrainingArguments
from recis_core.io import ParquetDataset
from recis_core.metrics import AUROC
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam, join


class Clicks(nn.Module):
    """Sums of rows and a number into an MLP."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.embeddings = EmbeddingEngine({name: EmbeddingOption(dim) for name in ("user", "item", "tags")})
        self.tower = nn.Sequential(nn.Linear(3 * dim + 1, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """Logits [B]."""
        rows = self.embeddings({name: batch[name] for name in ("user", "item", "tags")})
        return self.tower(torch.cat([rows["user"], rows["item"], rows["tags"], batch["price"]], dim=1)).squeeze(1)


def reader(file: Path, batch_size: int) -> ParquetDataset:
    data = ParquetDataset(batch_size, shuffle=True, seed=1)
    data.add_path(str(file))
    data.label_feature("click")
    data.id_feature("user")  # text becomes 64-bit ids by a hash
    data.id_feature("item")
    data.id_feature("tags")
    data.fixedlen_feature("price", default_value=[0.0])  # for nulls
    return data


def write_sample(file: Path, rows: int, seed: int) -> None:
    """Some users click more than others, some items are clicked more, and cheap ones."""
    draw = np.random.default_rng(seed)
    user, item, price = draw.integers(0, 200, rows), draw.integers(0, 100, rows), draw.random(rows)
    click = draw.random(rows) < 1 / (1 + np.exp(-(user % 4 + item % 5 - 2.5 - 2 * price)))
    tags = [draw.integers(0, 50, length).tolist() for length in draw.integers(0, 4, rows)]
    columns = {"user": [f"u{n}" for n in user], "item": item, "tags": tags, "price": price, "click": click.astype(int)}
    pq.write_table(pa.table(columns), file)


def main(
    file: Path | None = None, test: Path | None = None, output: Path = Path("own-parquet"), batch_size: int = 256
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if file is None:
            file, test = Path(folder) / "clicks.parquet", Path(folder) / "test.parquet"
            write_sample(file, 20_000, seed=0)
            write_sample(test, 4_000, seed=1)
        torch.manual_seed(0)
        model = Clicks()
        sparse = SparseAdam(model.embeddings.sparse_parameters(), lr=1e-2)
        trainer = Trainer(
            model, TrainingArguments(output_dir=str(output), label="click"), reader(file, batch_size),
            None if test is None else reader(test, batch_size),
            optimizers=join(torch.optim.Adam(model.parameters(), lr=1e-2), sparse),
            loss=F.binary_cross_entropy_with_logits, metrics={"auc": AUROC()},
        )  # fmt: skip
        trainer.train()
        rows = {name: len(table) for name, table in model.embeddings.sparse_parameters().items()}
        auc = f"AUC {trainer.evaluate()['auc']:.4f}, " if test is not None else ""
        print(f"{trainer.step} steps, {auc}rows {rows}, saved in {output}")


if __name__ == "__main__":
    tyro.cli(main)
