"""One rank of tests/exchange/test_ddp_hook.py: trains a small tower by each hook it is told of and saves what came out."""

import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from recis_core.exchange.ddp_hook import compressed_allreduce_hook

STEPS = 12


def tower() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(30, 70), torch.nn.ReLU(), torch.nn.Linear(70, 50), torch.nn.Linear(50, 1)
    )


def batch(rank: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + rank)
    x = torch.randn(16, 30, generator=generator)
    return x, x[:, :1] - 0.5 * x[:, 1:2] * x[:, 2:3]


def train(rank: int, text: str, **options: object) -> dict[str, object]:
    """Loss by step, the last gradient of every parameter and the parameters, after STEPS steps of SGD."""
    model = DistributedDataParallel(tower(), bucket_cap_mb=0.008)
    if text != "plain":
        model.register_comm_hook(*compressed_allreduce_hook(text, **options))
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.03), []
    for step in range(STEPS):
        x, y = batch(rank, step % 4)
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    parameters = [p.detach().clone() for p in model.parameters()]
    return {"losses": losses, "grads": [p.grad.clone() for p in model.parameters()], "parameters": parameters}


def with_inf(rank: int, text: str) -> dict[str, object]:
    """One finite step, one with inf and NaN on rank 1 alone, one finite step; gradients of each, by parameter."""
    model = DistributedDataParallel(tower(), bucket_cap_mb=0.008)
    state, hook = compressed_allreduce_hook(text)
    model.register_comm_hook(state, hook)
    grads, left = [], []
    for step in range(3):
        x, y = batch(rank, step)
        model.zero_grad()
        with torch.no_grad():
            poison = torch.ones(50)
            if step == 1 and rank == 1:
                poison[3], poison[7] = float("inf"), float("nan")
        hidden = model.module[2]
        handle = hidden.bias.register_hook(lambda g, poison=poison: g * poison)
        (model(x) - y).square().mean().backward()
        handle.remove()
        grads.append([p.grad.clone() for p in model.parameters()])
        left.append([state.left[p].clone() for p in model.parameters() if p in state.left])
    return {"grads": grads, "left": left}


def main() -> None:
    folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", world), rank=rank, world_size=world)
    runs: dict[str, object] = {text: train(rank, text) for text in sys.argv[4:]}
    runs["inf"] = with_inf(rank, "int8+ef")
    torch.save(runs, f"{folder}/rank{rank}.pt")
    dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads abort at interpreter exit every third time


main()
