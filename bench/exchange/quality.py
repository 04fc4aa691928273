"""AUC of DeepFM trained on `small` over the ranks that are here, by codec.

The truth is planted, so the AUC is the expected one over labels drawn from it: no noise of drawn test labels.

Sizes: B rows of a rank's batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recis_core.exchange import global_mean
from recis_core.io import SyntheticClicks
from recis_core.io.synthetic import bayes_auc, expected_auc
from recis_core.models import DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam, join

PRESET, DIM, LR = "small", 16, 3e-3
CONTROL = "zeroed gradients"  # fp32 both ways, and the tables learn nothing: what an AUC that says nothing looks like
TEST_BATCH = 8192

Batch = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """This rank's share of one seed's samples, made once for all codecs."""

    seed: int
    fields: list[str]
    train: list[Batch]
    test: list[Batch]


def read(rank: int, world: int, seed: int, rows: int, test_rows: int, batch: int) -> Log:
    """`rows` to train on and `test_rows` after them; `batch` is that of all ranks together."""
    clicks = SyntheticClicks(PRESET, seed)
    parts = [
        clicks.dataset(size // world, start, stop, worker_idx=rank, worker_num=world, prefetch=0, drop_remainder=True)
        for size, start, stop in ((batch, 0, rows), (TEST_BATCH, rows, rows + test_rows))
    ]
    return Log(seed, [field.name for field in clicks.preset.fields], *(list(part) for part in parts))


def train(log: Log, codec: str) -> dict[str, Any]:
    """One epoch under a codec; what came of it. Collective."""
    torch.manual_seed(log.seed)
    precision = "fp32" if codec == CONTROL else codec
    model = DeepFM(log.fields, DIM, seed=log.seed, precision=precision)
    if codec == CONTROL:
        model.embeddings.register_forward_hook(_without_gradient)
    dense = torch.optim.Adam(model.parameters(), lr=LR)
    optimizer = join(dense, SparseAdam(filter_out_sparse_param(model), lr=LR))
    ddp = DistributedDataParallel(model)
    start = time.perf_counter()
    for batch in log.train:
        summed = F.binary_cross_entropy_with_logits(ddp(batch), batch["label"], reduction="sum")
        optimizer.zero_grad()
        global_mean(summed, len(batch["label"])).backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    auc, bayes = evaluate(model, log.test)
    sent = model.embeddings.exchange.stats()  # type: ignore[union-attr]
    return {"codec": codec, "seed": log.seed, "auc": auc, "bayes_auc": bayes, "seconds": seconds, "sent": sent}


def _without_gradient(module: nn.Module, args: Any, outputs: dict[str, Tensor]) -> None:
    for output in outputs.values():
        if output.requires_grad:
            output.register_hook(torch.zeros_like)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch]) -> tuple[float, float]:
    """(expected AUC, that of the truth) over all ranks' test rows. Collective."""
    model.eval()
    scored = torch.cat([torch.stack([model(batch).double(), batch["p"]]) for batch in batches], dim=1)
    shares = [torch.empty_like(scored) for _ in range(dist.get_world_size())]
    dist.all_gather(shares, scored)
    scores, truth = torch.cat(shares, dim=1).numpy()
    return expected_auc(scores, truth), bayes_auc(truth)
