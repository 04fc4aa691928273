"""A first run: a DeepFM on a click log, with progress, evaluations, checkpoints, and a report at the end.

    python examples/first_run.py --steps 400

Ctrl-C ends it after its step; the same command goes on from there. --directory DIR is where checkpoints are.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F

from recis_core.framework import Trainer, TrainingArguments
from recis_core.hooks import EvaluateHook, ProgressHook, ReportHook
from recis_core.io import SyntheticClicks
from recis_core.metrics import AUROC
from recis_core.models import DeepFM
from recis_core.optim import SparseAdam, join
from recis_core.serialize import CheckpointManager, EverySteps


def main(steps: int, batch_size: int, directory: str) -> None:
    log, rows = SyntheticClicks("tiny"), 1_000_000
    model = DeepFM([field.name for field in log.preset.fields], embedding_dim=8)
    sparse = SparseAdam(model.embeddings.sparse_parameters(), lr=3e-3)
    trainer = Trainer(
        model, TrainingArguments(train_steps=steps), log.dataset(batch_size, stop=rows),
        log.dataset(batch_size, start=rows, stop=rows + 2048),
        optimizers=join(torch.optim.Adam(model.parameters(), lr=3e-3), sparse),
        loss=F.binary_cross_entropy_with_logits, metrics={"auc": AUROC()},
        hooks=[ProgressHook(), EvaluateHook(max(1, steps // 4)), ReportHook()],
        checkpoints=CheckpointManager(directory, save=EverySteps(100)),
    )  # fmt: skip
    trainer.restore()
    trainer.train()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--directory", default="first-run")
    main(**vars(parser.parse_args()))
