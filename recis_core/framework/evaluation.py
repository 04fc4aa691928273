"""A model's predictions against labels, and against the truth where it is known.

Sizes: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recis_core.exchange.gathering import gathered
from recis_core.metrics import auc, logloss
from recis_core.metrics.exact import one_class
from recis_core.nn.hash_table import exchange_of
from recis_core.plain_torch import without_gradients


@dataclass(frozen=True)
class Evaluation:
    """bayes_auc is the AUC of the true probabilities on the same labels; None where they are unknown.

    auc: NaN where there is none; auc_note then says why.
    """

    auc: float
    logloss: float
    rows: int
    bayes_auc: float | None = None
    bayes_logloss: float | None = None
    auc_note: str | None = None


@without_gradients
def evaluate(
    model: nn.Module, batches: Iterable[Mapping[str, Any]], *, label: str = "label", truth: str = "p"
) -> Evaluation:
    """Predict in eval mode: unknown ids are not inserted. The model keeps its mode.

    Where ranks share the model's tables, each gives its share of every batch, as many batches as the others, and
    gets the evaluation of all rows.
    """
    was_training = model.training
    model.eval()
    try:
        columns = [_columns(model, batch, label, truth) for batch in batches]
    finally:
        model.train(was_training)
    if not columns:
        raise ValueError("there is no row to evaluate on; ask for a larger test fraction or other test data.")
    mine, exchange = torch.cat(columns), exchange_of(model)
    whole = mine if exchange is None else torch.cat(gathered(exchange.channel, mine, kind="evaluate"))
    return _evaluation(*whole.T.contiguous().numpy())


def _columns(model: nn.Module, batch: Mapping[str, Any], label: str, truth: str) -> Tensor:
    """float64 [B, 2 or 3] on the CPU: predictions, labels and, where there are any, true probabilities."""
    columns = [model(batch).sigmoid(), batch[label], *([torch.as_tensor(batch[truth])] if truth in batch else [])]
    return torch.stack([column.double().cpu() for column in columns], 1)


def _evaluation(p: np.ndarray, y: np.ndarray, truth: np.ndarray | None = None) -> Evaluation:
    positives = int(y.sum())
    note = one_class(positives, len(y) - positives)
    area = auc if note is None else lambda predictions, labels: float("nan")
    if truth is None:
        return Evaluation(area(p, y), logloss(p, y), len(y), auc_note=note)
    return Evaluation(area(p, y), logloss(p, y), len(y), area(truth, y), logloss(truth, y), note)
