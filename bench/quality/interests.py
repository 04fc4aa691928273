"""DIN on users' histories, whose truth is attention of the item over events."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from recis_core.bench.quality.case import Case, Trained
from recis_core.bench.quality.clicks import auc
from recis_core.bench.quality.static_engine import with_static_tables
from recis_core.bench.quality.training import fit
from recis_core.io import SyntheticHistories
from recis_core.models import DIN

ROWS, TEST, BATCH, LR = 250_000, 32_768, 128, 5e-3


def trained(seed: int, *, static: bool = False) -> Trained:
    log = SyntheticHistories(60, kinds=6, max_length=10, seed=seed)
    train, test = list(log.dataset(BATCH, stop=ROWS)), list(log.dataset(8192, start=ROWS, stop=ROWS + TEST))
    torch.manual_seed(seed)
    model: Any = DIN(["item"], 8, seed=seed)
    if static:
        with_static_tables(model, train)
    seconds = fit(model, train, lambda batch: F.binary_cross_entropy_with_logits(model(batch), batch["label"]), LR)
    reached, best = auc(model, test)
    return Trained(figures={"AUC": reached}, best={"AUC": best}, seconds=seconds)


CASE = Case(
    name="DIN", data=f"SyntheticHistories, {ROWS:,} rows", train=trained, below_best={"AUC": 0.015},
    peer=lambda seed: trained(seed, static=True), peer_name="nn.Embedding", below_peer={"AUC": 0.005},
)  # fmt: skip
