"""Losses of a next item among candidates: SASRec's, and a softmax over all items or over some.

Sizes: T rows of histories, K negatives, C = 1 + K.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.ragged import RaggedTensor


def history_and_next(sequences: RaggedTensor) -> tuple[RaggedTensor, Tensor]:
    """Each sequence without its last value, and the value after each that is left.

        a b c | d | | e f   ->   a b | | | e   and   b c f

    Timestamps of the same offsets are cut alike. values: [N] or [N, D] of any dtype.
    """
    values, offsets = sequences.values(), sequences.offsets()[-1]
    lengths = offsets.diff()
    first, last = (torch.zeros(len(values), dtype=torch.bool, device=values.device) for _ in range(2))
    some = lengths > 0
    first[offsets[:-1][some]] = True
    last[offsets[1:][some] - 1] = True
    left = torch.cat([offsets[:1], (lengths - some.long()).cumsum(0)])
    return RaggedTensor(values[~last], left), values[~first]


def next_item_bce(logits: Tensor) -> Tensor:
    """Mean over rows of −log σ(logit of the next item) − Σ over negatives of log(1 − σ(logit)).

    logits: [T, 1 + K], the next item's first, as a model scores candidates [T, 1 + K]. SASRec, Kang and McAuley 2018,
    arXiv:1808.09781, §3.4, with K = 1.
    """
    return F.softplus(-logits[:, 0]).mean() + F.softplus(logits[:, 1:]).sum(1).mean()
