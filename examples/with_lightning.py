"""PyTorch Lightning drives an embedding engine: joint steps, a schedule, clipping, a checkpoint that resumes.

    python examples/with_lightning.py --steps 200

Lightning sees one optimizer over both sides, of optim.join, and one state_dict, which holds the tables' rows.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import pytorch_lightning as lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.io import SyntheticClicks
from recis_core.metrics import AUROC
from recis_core.models import DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join


class Clicks(lightning.LightningModule):
    """A DeepFM of a click log; its schedule ends after `steps`."""

    def __init__(self, fields: list[str], steps: int) -> None:
        super().__init__()
        self.net, self.steps, self.auc = DeepFM(fields, embedding_dim=8, hidden=(32,)), steps, AUROC()

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.net(batch), batch["label"])

    def test_step(self, batch: dict[str, Any], index: int) -> None:
        self.auc.update(self.net(batch).sigmoid(), batch["label"])

    def configure_optimizers(self) -> Any:
        sparse = SparseAdam(filter_out_sparse_param(self), lr=1e-2)
        both = join(torch.optim.Adam(self.parameters(), lr=1e-2), sparse)
        schedule = torch.optim.lr_scheduler.LinearLR(both, 1.0, 0.1, total_iters=self.steps)
        return {"optimizer": both, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def trainer(steps: int) -> lightning.Trainer:
    return lightning.Trainer(
        max_steps=steps, gradient_clip_val=1.0, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def main(steps: int, batch_size: int) -> None:
    log, half = SyntheticClicks("tiny"), steps // 2
    fields = [field.name for field in log.preset.fields]
    train = log.dataset(batch_size, stop=steps * batch_size)
    test = log.dataset(batch_size, start=steps * batch_size, stop=(steps + 20) * batch_size)

    first = trainer(half)
    first.fit(Clicks(fields, steps), train)
    with tempfile.TemporaryDirectory() as folder:
        first.save_checkpoint(f"{folder}/half.ckpt")
        model, second = Clicks(fields, steps), trainer(steps)
        second.fit(model, train, ckpt_path=f"{folder}/half.ckpt")  # Lightning keeps the position of our datasets, too
    second.test(model, test, verbose=False)

    (lr,) = {group["lr"] for group in second.optimizers[0].param_groups}
    rows = sum(len(table) for table in filter_out_sparse_param(model).values())
    print(f"{half} + {second.global_step - half} steps, lr {lr:.4f}, {rows:,} rows, test AUC {model.auc.compute():.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=256)
    main(**vars(parser.parse_args()))
