"""Losses of models with several tasks, and of retrieval.

Sizes: B rows of a batch, C candidates, O width of a tower's output.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def task_losses(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The log loss of each task, for MMoE.

    As `loss=` of a Trainer with `label=None`, which passes the whole batch as labels; its `loss_weights` weighs tasks.

    Args:
      logits: {task: floating [B]}. labels: {task: [B] of 0 and 1}; other keys are ignored.

    Returns:
      {task: [B]}, the loss of each row.

    Raises:
      KeyError: a task has no labels. ValueError: shapes differ.
    """
    missing = [task for task in logits if task not in labels]
    if missing:
        raise KeyError(f"labels must have an entry for each task; {missing} have none in {list(labels)}.")
    return {
        task: F.binary_cross_entropy_with_logits(values, labels[task].to(values.dtype), reduction="none")
        for task, values in logits.items()
    }


def sampled_softmax(
    queries: Tensor,
    items: Tensor,
    ids: Tensor,
    candidates: Tensor,
    candidate_ids: Tensor,
    *,
    log_q: Tensor | None = None,
    candidate_log_q: Tensor | None = None,
) -> Tensor:
    """The softmax loss of each row's item among candidates that were drawn, corrected for how they were drawn.

    loss_b = −log(e^{s_b} / (e^{s_b} + Σ_c e^{s_bc})),  s_b = <query_b, item_b> − log q(item_b),  s_bc likewise
    over the candidates that are another item than the row's own: an accidental hit is left out.

    With q the probability by which candidates were drawn, scores learn log p(item | query), up to a number for each
    query, as the softmax over all items would. Without the correction they learn log p(item | query) − log q(item), and
    frequent items come too low.

    Args:
      queries, items: [B, O], of each row. ids: int64 [B], of the items.
      candidates: [C, O], the same for all rows. candidate_ids: int64 [C]; may repeat.
      log_q: [B], candidate_log_q: [C]: log probabilities, by which a row's item, and each candidate, is drawn. None for both:
        no correction.

    Returns:
      [B], the loss of each row, at least 0; 0 where no candidate is left.

    Raises:
      ValueError: shapes disagree, or only one of log_q and candidate_log_q is given.

    Bengio and Senécal 2008; Yi et al. 2019, Sampling-bias-corrected neural modeling for large corpus item recommendations,
    RecSys, doi:10.1145/3298689.3346996.
    """
    _check(queries, items, ids, candidates, candidate_ids, log_q, candidate_log_q)
    own, others = (queries * items).sum(1), queries @ candidates.T
    if log_q is not None and candidate_log_q is not None:
        own, others = own - log_q, others - candidate_log_q
    others = others.masked_fill(ids[:, None] == candidate_ids[None, :], -torch.inf)
    return torch.cat([own[:, None], others], dim=1).logsumexp(1) - own


def in_batch_softmax(queries: Tensor, items: Tensor, ids: Tensor, *, log_q: Tensor | None = None) -> Tensor:
    """`sampled_softmax` with the items of the batch's other rows as candidates.

    Args:
      queries, items: [B, O]. ids: int64 [B]. log_q: [B], how often each item comes among all rows; None: no correction.
    """
    return sampled_softmax(queries, items, ids, items, ids, log_q=log_q, candidate_log_q=log_q)


def _check(
    queries: Tensor, items: Tensor, ids: Tensor, candidates: Tensor, candidate_ids: Tensor, log_q: Tensor | None,
    candidate_log_q: Tensor | None,
) -> None:  # fmt: skip
    if queries.dim() != 2 or items.shape != queries.shape or candidates.shape[1:] != queries.shape[1:]:
        shapes = ", ".join(str(list(t.shape)) for t in (queries, items, candidates))
        raise ValueError(f"queries and items must be [B, O], candidates [C, O]; got {shapes}.")
    if (log_q is None) != (candidate_log_q is None):
        raise ValueError(
            "log_q and candidate_log_q must be given both, or neither: one correction shifts all of a row."
        )
    lengths = {"ids": (ids, len(queries)), "candidate_ids": (candidate_ids, len(candidates))}
    corrections = {"log_q": (log_q, len(queries)), "candidate_log_q": (candidate_log_q, len(candidates))}
    for name, (tensor, length) in (lengths | corrections).items():
        if tensor is not None and tensor.shape != (length,):
            raise ValueError(f"{name} must be [{length}]; got {list(tensor.shape)}.")
