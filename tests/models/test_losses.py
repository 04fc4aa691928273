"""Sampled softmax beside the whole one."""

from __future__ import annotations

import pytest
import torch

from recis_core.models import in_batch_softmax, sampled_softmax


def draws(seed=0, B=5, I=7, O=3):  # noqa: E741 - sizes
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, O, generator=g), torch.randn(I, O, generator=g), torch.tensor([0, 3, 3, 6, 1])


def test_with_every_item_once_it_is_the_softmax_over_all():
    queries, items, ids = draws()
    ours = sampled_softmax(queries, items[ids], ids, items, torch.arange(7))
    whole = torch.nn.functional.cross_entropy(queries @ items.T, ids, reduction="none")
    torch.testing.assert_close(ours, whole)


def test_accidental_hits_are_left_out():
    queries, items, ids = draws()
    more = torch.tensor([3, 0, 3])  # hits of some rows, others of the rest
    with_hits = sampled_softmax(
        queries, items[ids], ids, torch.cat([items, items[more]]), torch.cat([torch.arange(7), more])
    )
    for b, own in enumerate(ids):
        others = [i for i in [*range(7), *more.tolist()] if i != own]
        scores = torch.cat([(items[own] @ queries[b])[None], items[others] @ queries[b]])
        torch.testing.assert_close(with_hits[b], scores.logsumexp(0) - scores[0])


def test_in_batch_masks_rows_of_the_same_item():
    queries, items, ids = draws()
    log_q = torch.tensor([0.1, 0.4, 0.4, 0.2, 0.3]).log()
    scores = queries @ items[ids].T - log_q
    for b, found in enumerate(in_batch_softmax(queries, items[ids], ids, log_q=log_q)):
        kept = (ids != ids[b]) | (torch.arange(5) == b)
        torch.testing.assert_close(found, scores[b][kept].logsumexp(0) - scores[b, b])


def test_alone_a_row_has_no_loss_and_gradients_are_finite():
    queries, items, ids = draws()
    queries.requires_grad_()
    same = in_batch_softmax(queries, items[ids], torch.full_like(ids, 4))
    same.sum().backward()
    assert same.tolist() == [0] * 5
    assert queries.grad.eq(0).all()
    assert in_batch_softmax(queries[:0], items[:0], ids[:0]).shape == (0,)


def test_corrected_draws_learn_the_whole_softmax():
    """The minimum over scores is log p(item | query) + a number, whatever q was; without the correction it is log p − log q."""
    p, q = torch.tensor([0.5, 0.3, 0.15, 0.05]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    for log_q, wanted in ((q.log(), p), (None, p / q)):
        scores = torch.zeros(4, requires_grad=True)
        descent = torch.optim.LBFGS([scores], max_iter=60)
        pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))  # (positive, drawn): weighed by p and q

        def loss(scores=scores, log_q=log_q, pairs=pairs, descent=descent):
            descent.zero_grad()
            one = torch.ones(1, 1)
            total = sum(
                p[i] * q[c] * sampled_softmax(
                    one, scores[i].view(1, 1), i[None], scores[c].view(1, 1), c[None],
                    log_q=None if log_q is None else log_q[i][None], candidate_log_q=None if log_q is None else log_q[c][None],
                ).sum()
                for i, c in pairs
            )  # fmt: skip
            total.backward()
            return total

        descent.step(loss)
        torch.testing.assert_close(scores.detach().softmax(0), wanted / wanted.sum(), rtol=0.02, atol=0.002)


def test_wrong_shapes_are_named():
    queries, items, ids = draws()
    with pytest.raises(ValueError, match=r"ids must be \[5\]; got \[4\]"):
        in_batch_softmax(queries, items[ids], ids[:4])
    with pytest.raises(ValueError, match=r"candidates \[C, O\]"):
        sampled_softmax(queries, items[ids], ids, items[:, :2], torch.arange(7))
    with pytest.raises(ValueError, match="both, or neither"):
        sampled_softmax(queries, items[ids], ids, items, torch.arange(7), log_q=torch.zeros(5))
