"""DeepFM and DLRM on a synthetic click log, whose truth is a factorization machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from recis_core.bench.quality.case import Case, Trained
from recis_core.bench.quality.static_engine import with_static_tables
from recis_core.bench.quality.training import Batch, fit
from recis_core.io import SyntheticClicks, bayes_auc, expected_auc
from recis_core.models import DLRM, DeepFM

ROWS, TEST, BATCH, LR = 1_500_000, 65_536, 1024, 2e-3
DATA = "SyntheticClicks('small'), 1,500,000 rows"


@cache
def batches(seed: int) -> tuple[list[Batch], list[Batch]]:
    """To train on, and to test on."""
    log = SyntheticClicks("small", seed)
    return list(log.dataset(BATCH, stop=ROWS)), list(log.dataset(8192, start=ROWS, stop=ROWS + TEST))


def trained(make: Callable[[list[str], int], Any], seed: int, *, static: bool = False) -> Trained:
    batches.cache_clear() if batches.cache_info().currsize > 1 else None
    train, test = batches(seed)
    torch.manual_seed(seed)
    model = make([name for name in train[0] if name not in ("label", "p")], seed)
    if static:
        with_static_tables(model, train)
    seconds = fit(model, train, lambda batch: F.binary_cross_entropy_with_logits(model(batch), batch["label"]), LR)
    reached, best = auc(model, test)
    return Trained(figures={"AUC": reached}, best={"AUC": best}, seconds=seconds)


@torch.no_grad()
def auc(model: nn.Module, test: list[Batch]) -> tuple[float, float]:
    """(expected AUC, that of the truth): without the noise of drawn labels."""
    model.eval()
    scores, p = torch.cat([model(b) for b in test]).numpy(), torch.cat([b["p"] for b in test]).numpy()
    return expected_auc(scores, p), bayes_auc(p)


def case(name: str, make: Callable[[list[str], int], Any]) -> Case:
    return Case(
        name=name, data=DATA, train=lambda seed: trained(make, seed), below_best={"AUC": 0.01},
        peer=lambda seed: trained(make, seed, static=True), peer_name="nn.Embedding", below_peer={"AUC": 0.002},
    )  # fmt: skip


DEEPFM = case("DeepFM", lambda fields, seed: DeepFM(fields, 16, seed=seed))
DLRM_DOT = case("DLRM", lambda fields, seed: DLRM(fields, 16, seed=seed))
DLRM_DCN = case('DLRM(interaction="dcn")', lambda fields, seed: DLRM(fields, 16, interaction="dcn", seed=seed))
