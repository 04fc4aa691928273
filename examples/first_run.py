"""A first run: a DeepFM on a click log, with progress, evaluations and a report at the end.

python examples/first_run.py --steps 400
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


def main(steps: int, batch_size: int) -> None:
    log, rows = SyntheticClicks("tiny"), steps * batch_size
    model = DeepFM([field.name for field in log.preset.fields], embedding_dim=8)
    sparse = SparseAdam(model.embeddings.sparse_parameters(), lr=3e-3)
    trainer = Trainer(
        model, TrainingArguments(train_steps=steps), log.dataset(batch_size, stop=rows),
        log.dataset(batch_size, start=rows, stop=rows + 20 * batch_size),
        optimizers=join(torch.optim.Adam(model.parameters(), lr=3e-3), sparse),
        loss=F.binary_cross_entropy_with_logits, metrics={"auc": AUROC()},
        hooks=[ProgressHook(), EvaluateHook(max(1, steps // 4)), ReportHook()],
    )  # fmt: skip
    trainer.train()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=256)
    main(**vars(parser.parse_args()))
