"""Incremental daily training: each day's file once, evaluated on the next day before that is trained on.

    python examples/daily.py --days 5 --directory daily

Rows not used for so many steps expire at the end of a day, and each day leaves a checkpoint: the first of a start is full, then
come deltas, which hold only the rows that came, changed or went. The same command with more days goes on after the last one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import tyro

from recis_core.framework import Trainer, TrainingArguments
from recis_core.io import ParquetDataset, SyntheticClicks, write_parquet
from recis_core.io.synthetic import Field, Preset
from recis_core.metrics import AUROC
from recis_core.models import DeepFM
from recis_core.optim import SparseAdam, join
from recis_core.serialize import CheckpointManager, DeltaPolicy, KeepLast, open_checkpoint

NEW_ITEMS = Field("item", 2_000, skew=1.0, drift=0.02)  # one in 50 clicks is on an item that nobody has seen
LOG = SyntheticClicks(Preset("daily", (NEW_ITEMS, Field("user", 300), Field("hour", 24)), rows=10_000, linear=1.0))
FIELDS = [field.name for field in LOG.preset.fields]


def day_of(number: int, rows: int, directory: Path, batch_size: int) -> ParquetDataset:
    """The reader of one day's file, which is written first where it is not there yet."""
    file = directory / f"day={number}.parquet"
    if not file.exists():
        write_parquet(LOG, str(file), rows, start=number * rows)
    data = ParquetDataset(batch_size)
    data.add_path(str(file))
    data.label_feature("label")
    for field in FIELDS:
        data.id_feature(field)
    return data


def model_and_optimizer(expire: int) -> tuple[DeepFM, Any]:
    torch.manual_seed(0)
    model = DeepFM(FIELDS, 8, hidden=(32,), filter_hook=f"step({expire})")
    sparse = SparseAdam(model.embeddings.sparse_parameters(), lr=1e-2)
    return model, join(torch.optim.Adam(model.parameters(), lr=1e-2), sparse)


def main(
    days: int = 5, rows: int = 10_000, batch_size: int = 128, expire: int = 100, directory: Path = Path("daily")
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    model, optimizer = model_and_optimizer(expire)
    manager = CheckpointManager(directory / "checkpoints", save=None, keep=KeepLast(7), delta=DeltaPolicy(every_full=7))
    manager.register(model=model, optimizer=optimizer)
    done = manager.restore()  # its number is that of the day
    for day in range(1 if done is None else done.step + 1, days + 1):
        trainer = Trainer(
            model, TrainingArguments(), day_of(day, rows, directory, batch_size), day_of(day + 1, rows, directory, batch_size),
            optimizers=optimizer, loss=F.binary_cross_entropy_with_logits, metrics={"auc": AUROC()},
        )  # fmt: skip
        trainer.train()
        gone = model.embeddings.evict()["item"]
        manager.save(day)
        manager.wait()
        tomorrow = trainer.evaluate()["auc"]
        kind = open_checkpoint(directory / "checkpoints").kind
        items = len(model.embeddings.table("item"))
        print(f"day {day}: AUC of the next day {tomorrow:.4f}, {items:,} items, {gone:,} expired, a {kind} checkpoint")
    manager.close()


if __name__ == "__main__":
    tyro.cli(main)
