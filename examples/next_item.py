"""Trains SASRec and HSTU on histories of any length and says how often the next item is among the best 10 of all items.

    python examples/next_item.py --steps 200

Users walk through items: from item i to one of three that i leads to, or anywhere once in ten times.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
import tyro

from recis_core.metrics import HitRateAtK, NDCGAtK
from recis_core.models import HSTU, SASRec, history_and_next
from recis_core.optim import SparseAdam, join
from recis_core.ragged import RaggedTensor

ITEMS = 200


def walks(users: int, leads_to: torch.Tensor, generator: torch.Generator) -> RaggedTensor:
    """Items of each user, 2 to 60 of them."""
    at, path = torch.randint(ITEMS, (users,), generator=generator), []
    for _ in range(60):
        path.append(at)
        at = leads_to[at, torch.randint(3, (users,), generator=generator)]
        anywhere = torch.rand(users, generator=generator) < 0.1
        at = torch.where(anywhere, torch.randint(ITEMS, (users,), generator=generator), at)
    lengths = torch.randint(2, 61, (users,), generator=generator)
    kept = torch.arange(60) < lengths[:, None]
    return RaggedTensor(torch.stack(path, 1)[kept], F.pad(lengths.cumsum(0), (1, 0)))


def trained(model: SASRec | HSTU, leads_to: torch.Tensor, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    optimizer = join(torch.optim.Adam(model.parameters(), 3e-3), SparseAdam(model.embeddings.sparse_parameters(), 3e-3))
    for _ in range(steps):
        history, following = history_and_next(walks(64, leads_to, generator))
        loss = F.cross_entropy(model({"history": history, "candidates": torch.arange(ITEMS)}), following)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def evaluated(model: SASRec | HSTU, leads_to: torch.Tensor, users: int = 500) -> tuple[float, float]:
    """HR@10 and NDCG@10 of the item after each history, among all items."""
    model.eval()
    paths = walks(users, leads_to, torch.Generator().manual_seed(2))
    history, following = history_and_next(paths)
    scores = model({"history": history, "candidates": torch.arange(ITEMS)}, last=True)
    last = F.one_hot(following[history.offsets()[0][1:] - 1], ITEMS)
    hits, gains = HitRateAtK(10), NDCGAtK(10)
    for metric in (hits, gains):
        metric.update(scores.flatten(), last.flatten(), torch.arange(users).repeat_interleave(ITEMS))
    return float(hits.compute()), float(gains.compute())


def main(steps: int = 200, embedding_dim: int = 32, seed: int = 0) -> None:
    leads_to = torch.randint(ITEMS, (ITEMS, 3), generator=torch.Generator().manual_seed(0))
    for kind in (SASRec, HSTU):
        torch.manual_seed(seed)
        model = kind(embedding_dim, layers=2, heads=2, max_length=60, dropout=0.1, seed=seed)
        start = time.perf_counter()
        trained(model, leads_to, steps)
        seconds = time.perf_counter() - start
        hr, ndcg = evaluated(model, leads_to)
        print(f"{kind.__name__}: {steps} steps in {seconds:.1f} s, HR@10 {hr:.3f}, NDCG@10 {ndcg:.3f}")


if __name__ == "__main__":
    tyro.cli(main)
