"""Ray Train runs a DeepFM on CPU workers, which share its tables over gloo; a run that is started again goes on.

    pip install 'recis-core[ray]'
    python examples/with_ray.py --steps 200 --workers 2 --directory run

Ray starts the workers and their process group, as torchrun would. The Trainer does what it does under torchrun: each worker
owns a part of every table, and saves it into one directory, which all workers must see. The next start, or Ray's own after a
failure, goes on from there, on any number of workers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import ray
import torch
import torch.nn.functional as F
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from recis_core.framework import Trainer, TrainingArguments
from recis_core.io import SyntheticClicks
from recis_core.metrics import AUROC
from recis_core.models import DeepFM
from recis_core.optim import SparseAdam, join

ROWS = 100_000  # to train on; those after them are the test's


def train_on_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What each worker runs, inside of the process group. Ray hands on what the first one returns."""
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    steps, batch_size = config["steps"], config["batch_size"]
    log = SyntheticClicks("tiny")
    torch.manual_seed(0)
    model = DeepFM([field.name for field in log.preset.fields], embedding_dim=8, hidden=(32,))
    both = join(torch.optim.Adam(model.parameters(), 1e-2), SparseAdam(model.embeddings.sparse_parameters(), 1e-2))
    train, test = log.dataset(batch_size, stop=ROWS), log.dataset(batch_size, start=ROWS, stop=ROWS + 5000)
    for rows in (train, test):
        rows.share_batches(rank, world)
    trainer = Trainer(
        model, TrainingArguments(train_steps=steps, output_dir=config["directory"], save_steps=50), train, test,
        optimizers=both, loss=F.binary_cross_entropy_with_logits, metrics={"auc": AUROC()},
    )  # fmt: skip
    trainer.restore()
    before = trainer.step
    metrics = trainer.train_and_evaluate()
    return {**metrics, "before": before, "step": trainer.step, "world": world}


def main(steps: int, batch_size: int, workers: int, directory: str) -> None:
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    folder = Path(directory).resolve()
    run = TorchTrainer(
        train_on_worker,
        train_loop_config={"steps": steps, "batch_size": batch_size, "directory": str(folder / "checkpoints")},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=RunConfig(storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=1)),
    )
    told = run.fit().return_value
    ray.shutdown()
    print(
        f"{told['before']} + {told['step'] - told['before']} steps on {told['world']} workers, test AUC {told['auc']:.4f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--directory", default="run")
    main(**vars(parser.parse_args()))
