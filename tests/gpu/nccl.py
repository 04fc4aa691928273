"""python -m tests.gpu.nccl: training under DDP and FSDP2 over NCCL, a rank a GPU, beside one process on the CPU.

One GPU is one rank: collectives run, and move nothing between devices. `--device cpu` is the same over gloo.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from tests.exchange.models import Model, batch, optimizer_of, share
from tests.training.on_ranks import assert_same_run, local_loss, result, sharded

STEPS = 3
WRAPS = {"ddp": DistributedDataParallel, "fsdp2": sharded}


def trained(device: str, rank: int, world: int, wrap: Any) -> dict[str, Any]:
    """This rank's tables, tower and losses after STEPS."""
    model = Model(device=device).to(device)
    wrapped: nn.Module = wrap(model)
    optimizer, losses = optimizer_of(model), []  # after FSDP2 has put its shards in place of parameters
    for number in range(STEPS):
        optimizer.zero_grad()
        data = {name: values.to(device) for name, values in batch(number, share(rank, world)).items()}
        loss = local_loss(wrapped, data)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return result(model, losses)


def on_rank(rank: int, world: int, device: str, folder: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    if device == "cuda":
        torch.cuda.set_device(rank)
    kind = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(kind, init_method=f"file://{folder}/store", rank=rank, world_size=world)
    found = {name: trained(device, rank, world, wrap) for name, wrap in WRAPS.items()}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)  # a group's threads may abort a process that leaves in the ordinary way


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.nccl", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    device = parser.parse_args(argv).device
    world = torch.cuda.device_count() if device == "cuda" else 2
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(on_rank, (world, device, folder), nprocs=world, start_method="spawn")
        ranks = [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in range(world)]
    os.environ["RECIS_BACKEND"] = "numba"
    want = trained("cpu", 0, 1, lambda model: model)
    for name in WRAPS:
        assert_same_run([rank[name] for rank in ranks], want, rtol=1e-4)
        print(f"{name}: {world} ranks on {device} train as one process does")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
