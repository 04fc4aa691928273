"""Hugging Face Accelerate drives an embedding engine: accumulation, clipping, a schedule, a checkpoint that resumes.

    python examples/with_accelerate.py --steps 200

Accelerate prepares the one optimizer of optim.join as it prepares any other; a model's state_dict holds the tables' rows.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from recis_core.io import SyntheticClicks
from recis_core.metrics import AUROC
from recis_core.models import DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join


class Training:
    """A DeepFM of a click log, as Accelerate prepares it; its schedule ends after `steps`."""

    def __init__(self, log: SyntheticClicks, steps: int, batch_size: int) -> None:
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = DeepFM([field.name for field in log.preset.fields], embedding_dim=8, hidden=(32,))
        sparse = SparseAdam(filter_out_sparse_param(model), lr=1e-2)
        both = join(torch.optim.Adam(model.parameters(), lr=1e-2), sparse)
        schedule = torch.optim.lr_scheduler.LinearLR(both, 1.0, 0.1, total_iters=steps // 2)
        self.model, self.optimizer, self.schedule = self.accelerator.prepare(model, both, schedule)
        self.data = log.dataset(batch_size, stop=steps * batch_size)
        self.accelerator.register_for_checkpointing(self.data)

    def train(self, steps: int) -> int:
        """At most so many batches from where the data is; returns how many."""
        self.model.train()
        done = 0
        for batch in itertools.islice(self.data, steps):
            done += 1
            with self.accelerator.accumulate(self.model):
                loss = F.binary_cross_entropy_with_logits(self.model(batch), batch["label"])
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
        return done

    @torch.no_grad()
    def auc(self, batches: torch.utils.data.IterableDataset) -> float:
        self.model.eval()
        metric = AUROC()
        for batch in batches:
            metric.update(self.model(batch).sigmoid(), batch["label"])
        return metric.compute()


def main(steps: int, batch_size: int) -> None:
    log = SyntheticClicks("tiny")
    first = Training(log, steps, batch_size)
    before = first.train(steps // 2)
    with tempfile.TemporaryDirectory() as folder:
        first.accelerator.save_state(folder)
        second = Training(log, steps, batch_size)
        second.accelerator.load_state(folder)
    after = second.train(steps)

    auc = second.auc(log.dataset(batch_size, start=steps * batch_size, stop=(steps + 20) * batch_size))
    (lr,) = {group["lr"] for group in second.optimizer.param_groups}
    rows = sum(len(table) for table in filter_out_sparse_param(second.model).values())
    print(f"{before} + {after} batches, lr {lr:.4f}, {rows:,} rows, test AUC {auc:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=256)
    main(**vars(parser.parse_args()))
