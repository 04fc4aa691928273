"""Two towers: scores, losses by the candidates that they name, and the search."""

from __future__ import annotations

import pytest
import torch

from recis_core.metrics import RecallAtK
from recis_core.models import (
    ItemIndex,
    NegativeSampler,
    Retrieval,
    TwoTower,
    in_batch_softmax,
    ranked_rows,
    sampled_softmax,
)
from recis_core.ragged import RaggedTensor

TWO = RaggedTensor(torch.tensor([1, 2]), torch.tensor([0, 2]))
BATCH = {"user": torch.tensor([1, 2, 3]), "item": torch.tensor([7, 8, 7])}


def towers(items=("item",), **kwargs):
    torch.manual_seed(0)
    return TwoTower(["user"], items, 4, width=3, hidden=(5,), backend="torch", **kwargs)


def test_scores_are_products_of_towers():
    model = towers(temperature=0.5)
    rows = model.embeddings(BATCH)
    users, items = model.user_tower(rows["user"]), model.item_tower(rows["item"])
    torch.testing.assert_close(model(BATCH), (users * items).sum(1) / 0.5)
    torch.testing.assert_close(model.users(BATCH), users / 0.5)
    torch.testing.assert_close(model.items({"item": BATCH["item"]}), items)
    cosine = towers(normalize=True, temperature=0.1)
    assert cosine.items(BATCH).norm(dim=1).tolist() == pytest.approx([1] * 3)
    assert cosine.users(BATCH).norm(dim=1).tolist() == pytest.approx([10] * 3, rel=1e-5)


def test_a_history_may_share_the_items_table():
    model = TwoTower(["history"], ["item"], 4, tables={"history": "item"}, combiner="mean", backend="torch")
    history = RaggedTensor(torch.tensor([7, 8, 9]), torch.tensor([0, 1, 1, 3]))
    assert model({"history": history, "item": BATCH["item"]}).shape == (3,)
    assert model.embeddings.table("item").ids().tolist() == [7, 8, 9]
    assert Retrieval(model)({"history": history, "item": BATCH["item"]}) > 0


def test_in_batch_loss_is_the_function():
    model = towers()
    users, items = model.vectors(BATCH, BATCH)
    plain = Retrieval(model)(BATCH)
    torch.testing.assert_close(plain, in_batch_softmax(users, items, BATCH["item"]).mean())
    sampler = NegativeSampler(model.embeddings.table("item"))
    corrected = Retrieval(model, sampler)(BATCH)
    log_q = torch.tensor([2 / 3, 1 / 3, 2 / 3]).log()
    torch.testing.assert_close(corrected, in_batch_softmax(users, items, BATCH["item"], log_q=log_q).mean())
    assert not torch.allclose(plain, corrected)


@pytest.mark.parametrize("in_batch", [True, False])
def test_drawn_candidates_are_corrected_by_the_mixture(in_batch):
    model = towers()
    table = model.embeddings.table("item")
    table(torch.tensor([7, 8, 9]))
    sampler, twin = (NegativeSampler(table, alpha=1) for _ in range(2))
    loss = Retrieval(model, sampler, negatives=4, in_batch=in_batch)(BATCH)
    twin.update(BATCH["item"])
    drawn = twin.sample(4).ids
    users, items = model.vectors(BATCH, {"item": torch.cat([BATCH["item"], drawn])})
    share = {7: 2 / 3, 8: 1 / 3, 9: 1 / 3}  # 9 was not counted, and counts as one
    q = {i: s / sum(share.values()) for i, s in share.items()}
    B = 3 if in_batch else 0
    mixed = {i: (B * share[i] + 4 * q[i]) / (B + 4) for i in share}
    ids = torch.cat([BATCH["item"], drawn])
    log_q, kept = torch.tensor([mixed[int(i)] for i in ids]).log(), slice(0 if in_batch else 3, None)
    wanted = sampled_softmax(
        users, items[:3], BATCH["item"], items[kept], ids[kept], log_q=log_q[:3], candidate_log_q=log_q[kept]
    )
    torch.testing.assert_close(loss, wanted.mean())


def test_the_first_step_has_no_rows_to_draw_and_eval_draws_none():
    model = towers()
    sampler = NegativeSampler(model.embeddings.table("item"))
    task = Retrieval(model, sampler, negatives=4, in_batch=False)
    assert task(BATCH) == 0
    task.eval()
    before = sampler.state_dict()
    task(BATCH)
    after = sampler.state_dict()
    assert after["draws"] == before["draws"] == 1
    assert after["frequency"]["counts"].tolist() == before["frequency"]["counts"].tolist()
    nothing = {name: ids[:0] for name, ids in BATCH.items()}
    assert Retrieval(model)(nothing) == 0


def test_other_fields_of_drawn_items_come_from_the_user():
    model = towers(items=("item", "shop"))
    shops = lambda ids: {"shop": ids // 4}  # noqa: E731
    sampler = NegativeSampler(model.embeddings.table("item"))
    task = Retrieval(model, sampler, negatives=5, item_features=shops)
    batch = {**BATCH, **shops(BATCH["item"])}
    for _ in range(3):
        assert task(batch) > 0
    assert model.embeddings.table("shop").ids().tolist() == [1, 2]
    assert Retrieval(model)(batch) > 0  # none are drawn, so no function is needed
    index = ItemIndex.of(model, torch.tensor([7, 8]), item_features=shops)
    model.eval()
    torch.testing.assert_close(index.vectors, model.items({"item": index.ids, **shops(index.ids)}))
    with pytest.raises(ValueError, match=r"item_features=, a function to \['shop'\]"):
        Retrieval(model, sampler, negatives=5)


def test_the_best_items_and_their_recall():
    index = ItemIndex(torch.tensor([10, 20, 30]), torch.tensor([[1.0, 0], [0, 1], [1, 1]]))
    ids, scores = index.top(torch.tensor([[2.0, 1], [-1, 3], [1, -5]]), 2)
    assert ids.tolist() == [[30, 10], [20, 30], [10, 30]]
    assert scores.tolist() == [[3, 2], [3, 2], [1, -4]]
    recall = RecallAtK(2)
    recall.update(*ranked_rows(ids[:2], scores[:2], torch.tensor([10, 10])))
    recall.update(*ranked_rows(ids[2:], scores[2:], torch.tensor([20]), first=2))
    assert recall.compute() == pytest.approx(1 / 3)
    assert ItemIndex.of(towers().train(), torch.tensor([7])).vectors.shape == (1, 3)


def test_the_index_leaves_the_towers_as_they_were():
    model = towers()
    ItemIndex.of(model, torch.tensor([7, 8]))
    assert model.training
    assert len(model.embeddings.table("item")) == 0
    with pytest.raises(ValueError, match="one vector an id"):
        ItemIndex(torch.tensor([1]), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TwoTower([], ["item"]), "one field each at least"),
        (lambda: TwoTower(["x"], ["x"]), "none in common"),
        (lambda: TwoTower(["user"], ["item"], tables={"history": "item"}), "got 'history'"),
        (lambda: TwoTower(["user"], ["item"], temperature=0), "above 0; got 0"),
        (lambda: Retrieval(towers(), in_batch=False), "must come from the batch, or be drawn"),
        (lambda: Retrieval(towers(), negatives=3), "need a sampler"),
        (lambda: Retrieval(towers(), NegativeSampler(towers().embeddings.table("item"))), "towers' table 'item'"),
        (lambda: Retrieval(towers())({"user": BATCH["user"][:1], "item": TWO}), "one id a row"),
    ],
)
def test_wrong_arguments_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
