"""MMoE on two related tasks."""

from __future__ import annotations

from typing import Any

import torch

from recis_core.bench.quality.case import Case, Trained
from recis_core.bench.quality.clicks import PRESET
from recis_core.bench.quality.static_engine import with_static_tables
from recis_core.bench.quality.training import Batch, fit
from recis_core.io import SyntheticTasks, bayes_auc, expected_auc
from recis_core.models import MMoE, task_losses

ROWS, TEST, BATCH, LR = 1_000_000, 32_768, 128, 5e-3


def trained(seed: int, *, static: bool = False) -> Trained:
    log = SyntheticTasks(PRESET, seed)
    train, test = list(log.dataset(BATCH, stop=ROWS)), list(log.dataset(8192, start=ROWS, stop=ROWS + TEST))
    torch.manual_seed(seed)
    model: Any = MMoE([field.name for field in PRESET.fields], log.tasks, 8, seed=seed)
    if static:
        with_static_tables(model, train)
    seconds = fit(
        model, train, lambda batch: torch.stack([x.mean() for x in task_losses(model(batch), batch).values()]).sum(), LR
    )
    return Trained(**aucs(model, log.tasks, test), seconds=seconds)


@torch.no_grad()
def aucs(model: Any, tasks: tuple[str, ...], test: list[Batch]) -> dict[str, dict[str, float]]:
    """Of each task, that of the model and that of the truth."""
    model.eval()
    logits = [model(batch) for batch in test]
    scores = {task: torch.cat([each[task] for each in logits]).numpy() for task in tasks}
    truth = {task: torch.cat([batch[f"{task}:p"] for batch in test]).numpy() for task in tasks}
    return {
        "figures": {f"AUC {task}": expected_auc(scores[task], truth[task]) for task in tasks},
        "best": {f"AUC {task}": bayes_auc(truth[task]) for task in tasks},
    }


CASE = Case(
    name="MMoE", data=f"SyntheticTasks, {ROWS:,} rows", train=trained,
    below_best={"AUC click": 0.03, "AUC buy": 0.03},
    peer=lambda seed: trained(seed, static=True), peer_name="nn.Embedding",
    below_peer={"AUC click": 0.005, "AUC buy": 0.005},
)  # fmt: skip
