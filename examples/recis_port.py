"""A program written for RecIS: ORC files, features, embeddings, its Trainer and checkpoints.

    python examples/recis_port.py --rows 20000

All that was changed is the root of its imports, recis, which is recis_core.compat.recis. A second call with the same --directory
trains on from the newest checkpoint, whose format is RecIS's.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from pyarrow import orc
from torch import Tensor, nn

from recis_core.compat.recis.features import FeatureEngine
from recis_core.compat.recis.features.feature import Feature
from recis_core.compat.recis.features.op import Bucketize, FeatureCross, Mod, SelectField, SelectFields
from recis_core.compat.recis.framework import Trainer
from recis_core.compat.recis.framework.metrics import add_metric
from recis_core.compat.recis.framework.trainer import TrainingArguments
from recis_core.compat.recis.hooks import Hook
from recis_core.compat.recis.io.orc_dataset import OrcDataset
from recis_core.compat.recis.nn import EmbeddingEngine, EmbeddingOption
from recis_core.compat.recis.nn.modules.hashtable import filter_out_sparse_param
from recis_core.compat.recis.optim import SparseAdamW

BATCH = 128


def write_clicks(folder: Path, rows: int) -> None:
    """Clicks that a planted taste of users for items decides: a user, clicked items, a price, a label."""
    draw = np.random.default_rng(0)
    users, items = draw.integers(0, 200, rows), [draw.integers(0, 60, draw.integers(0, 4)) for _ in range(rows)]
    price, taste, quality = draw.random(rows), draw.normal(size=200), draw.normal(size=60)
    affinity = 1.5 * taste[users] + np.array([quality[i].sum() for i in items]) + 2 * (price < 0.3)
    labels = draw.random(rows) < 1 / (1 + np.exp(-affinity))
    columns = {"user": [[user] for user in users], "items": [i.tolist() for i in items], "price": [[p] for p in price]}
    orc.write_table(pa.table({**columns, "label": [[float(label)] for label in labels]}), str(folder / "part-0.orc"))


def dataset(folder: Path) -> OrcDataset:
    data = OrcDataset(BATCH, transform_fn=lambda batches: batches[0])
    data.add_path(str(folder / "part-0.orc"))
    for name in ("user", "items"):
        data.varlen_feature(name)
    for name in ("price", "label"):
        data.fixedlen_feature(name, [0.0])
    return data


class Model(nn.Module):
    """Features made of columns, a table for each, and layers over their vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.features = FeatureEngine(
            [
                Feature("user").add_op(SelectField("user")),
                Feature("items").add_op(SelectField("items")),
                Feature("price_band").add_op(SelectField("price")).add_op(Bucketize([0.1, 0.3, 0.6])),
                Feature("user_item").add_op(SelectFields([SelectField("user"), SelectField("items")]))
                .add_op(FeatureCross()).add_op(Mod(5000)),
            ]
        )  # fmt: skip
        self.names = ("user", "items", "price_band", "user_item")
        self.embeddings = EmbeddingEngine(
            {name: EmbeddingOption(embedding_dim=8, shared_name=f"{name}_table", combiner="sum") for name in self.names}
        )
        self.tower = nn.Sequential(nn.Linear(8 * len(self.names), 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        vectors = self.embeddings(self.features(batch))
        logits = self.tower(torch.cat([vectors[name] for name in self.names], 1))
        loss = F.binary_cross_entropy_with_logits(logits, batch["label"])
        add_metric("loss_now", loss.item())
        return loss


class Losses(Hook):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def after_step(self, metrics: dict[str, float], global_step: int) -> None:
        self.seen.append(float(metrics["loss_now"]))


def train(folder: Path) -> None:
    torch.manual_seed(0)
    model, losses = Model(), Losses()
    args = TrainingArguments(output_dir=str(folder / "checkpoints"), train_epoch=2, save_steps=100, log_steps=50)
    sparse = SparseAdamW(filter_out_sparse_param(model), lr=0.01)
    dense = torch.optim.AdamW(model.parameters(), lr=0.003)
    Trainer(model, args, dataset(folder), None, [losses], (dense, None), sparse).train()
    first, last = np.mean(losses.seen[:20]), np.mean(losses.seen[-20:])
    print(f"{len(losses.seen)} steps: loss of the first 20 batches {first:.4f}, of the last 20 {last:.4f}")


def main(rows: int, directory: Path | None) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = directory or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "part-0.orc").exists():
            write_clicks(folder, rows)
        train(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--directory", type=Path, help="for the clicks and checkpoints; without it they are dropped")
    main(**vars(parser.parse_args()))
