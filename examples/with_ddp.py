"""Several GPUs with DistributedDataParallel, in a loop by hand: each rank has its rows of each batch and its share of the tables.

    torchrun --nproc-per-node 2 examples/with_ddp.py --steps 200          GPUs by NCCL; without one, processes by gloo
    python examples/with_ddp.py --steps 200                               the same batches on one process

Both train alike: sums of another order apart, they end with the same AUC.
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from recis_core.exchange import global_mean
from recis_core.io import SyntheticClicks
from recis_core.metrics import AUROC
from recis_core.models import DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, clip_grad_norm_, join


def main(steps: int, batch_size: int) -> None:
    """batch_size: rows of all ranks together."""
    if "RANK" in os.environ:  # by torchrun
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    log = SyntheticClicks("tiny")
    train = log.dataset(batch_size, stop=steps * batch_size)
    test = log.dataset(batch_size, start=steps * batch_size, stop=(steps + 20) * batch_size)
    for data in (train, test):
        data.share_batches(rank, world)

    torch.manual_seed(0)
    model = DeepFM([field.name for field in log.preset.fields], embedding_dim=8, hidden=(32,)).to(device)
    whole = DistributedDataParallel(model) if world > 1 else model  # tables hold no parameter: DDP leaves them alone
    sparse = SparseAdam(filter_out_sparse_param(model), lr=1e-2)
    optimizer = join(torch.optim.Adam(model.parameters(), lr=1e-2), sparse)
    for batch in train:
        batch = {name: value.to(device) for name, value in batch.items()}
        losses = F.binary_cross_entropy_with_logits(whole(batch), batch["label"], reduction="sum")
        loss = global_mean(losses, len(batch["label"]))  # over the rows of all ranks, however many each has
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(optimizer, 1.0)  # one norm over dense parameters and rows, of all ranks
        optimizer.step()

    auc = AUROC()
    model.eval()
    with torch.no_grad():
        for batch in test:
            batch = {name: value.to(device) for name, value in batch.items()}
            auc.update(model(batch).sigmoid(), batch["label"])
    auc.reduce()
    rows = sum(len(table) for table in filter_out_sparse_param(model).values())
    if rank == 0:
        print(f"{world} ranks, {steps} steps, {rows:,} rows, test AUC {auc.compute():.4f}")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=256)
    main(**vars(parser.parse_args()))
