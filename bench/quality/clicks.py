"""DeepFM and DLRM on a synthetic click log, whose truth is a factorization machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from recis_core.bench.quality.case import Case, Trained
from recis_core.bench.quality.static_engine import with_static_tables
from recis_core.bench.quality.training import Batch, fit
from recis_core.io import SyntheticClicks, bayes_auc, expected_auc
from recis_core.io.synthetic import Field, Preset
from recis_core.models import DLRM, DeepFM

ROWS, TEST, BATCH, LR = 500_000, 32_768, 128, 3e-3
SIZES = {"user": 100, "item": 100, "shop": 50, "city": 30, "hour": 24}
TAGS = Field("tags", 40, skew=0.5, max_length=3, empty=0.1)
FIELDS = tuple(Field(name, size, skew=0.5) for name, size in SIZES.items())
PRESET = Preset("ranking", (*FIELDS, TAGS), rows=ROWS, linear=0.8, pair=0.2)
NAMES = [field.name for field in PRESET.fields]


@lru_cache(maxsize=4)
def batches(seed: int) -> tuple[list[Batch], list[Batch]]:
    """To train on, and to test on. The dense input is a constant, whose product with a row is the row's linear part."""
    log = SyntheticClicks(PRESET, seed)
    train, test = log.dataset(BATCH, stop=ROWS), log.dataset(8192, start=ROWS, stop=ROWS + TEST)
    return [with_one(batch) for batch in train], [with_one(batch) for batch in test]


def with_one(batch: Batch) -> Batch:
    return {**batch, "dense": torch.ones(len(batch["label"]), 1)}


def trained(make: Callable[[int], Any], seed: int, *, static: bool = False) -> Trained:
    train, test = batches(seed)
    torch.manual_seed(seed)
    model = make(seed)
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


def case(name: str, make: Callable[[int], Any]) -> Case:
    return Case(
        name=name, data=f"SyntheticClicks, {ROWS:,} rows", train=lambda seed: trained(make, seed), below_best={"AUC": 0.025},
        peer=lambda seed: trained(make, seed, static=True), peer_name="nn.Embedding", below_peer={"AUC": 0.005},
    )  # fmt: skip


DEEPFM = case("DeepFM", lambda seed: DeepFM(NAMES, 8, dense=1, seed=seed))
DLRM_DOT = case("DLRM", lambda seed: DLRM(NAMES, 8, dense=1, seed=seed))
DLRM_DCN = case('DLRM(interaction="dcn")', lambda seed: DLRM(NAMES, 8, dense=1, interaction="dcn", seed=seed))
