"""DIN: its formula, histories of any length, its activations."""

from __future__ import annotations

import pytest
import torch

from recis_core.models import DIN
from recis_core.models.activations import Dice
from recis_core.nn import filter_out_sparse_param
from recis_core.optim import SparseAdam
from recis_core.ragged import RaggedTensor

HISTORY = RaggedTensor(torch.tensor([4, 5, 1, 4, 9]), torch.tensor([0, 2, 2, 5]))
BATCH = {"item": torch.tensor([4, 1, 2]), "user": torch.tensor([7, 7, 8]), "history": HISTORY}


def din(**kwargs):
    torch.manual_seed(0)
    return DIN(["item", "user"], 4, attention=(3,), hidden=(5,), **{"backend": "torch", "activation": "prelu"} | kwargs)


def by_hand(model, batch):
    """Row by row, event by event."""
    item = model.embeddings.table("item")
    user = model.embeddings.table("user")
    weigh, rows = model.attention[0].weigh, []
    for i, (target, who) in enumerate(zip(batch["item"], batch["user"], strict=True)):
        t, pooled = item(target[None])[0], torch.zeros(4)
        for event in batch["history"].rows(i, i + 1).values():
            e = item(event[None])[0]
            pooled = pooled + weigh(torch.cat([e, t, e - t, e * t])[None])[0] * e
        dense = [batch["dense"][i]] if "dense" in batch else []
        rows.append(torch.cat([t, user(who[None])[0], pooled, *dense]))
    return model.tower(torch.stack(rows))[:, 0]


@pytest.mark.parametrize("dense", [0, 2])
def test_it_is_its_formula(dense):
    model = din(dense=dense)
    batch = BATCH | ({"dense": torch.randn(3, dense)} if dense else {})
    torch.testing.assert_close(model(batch), by_hand(model, batch))
    other = RaggedTensor(HISTORY.values(), torch.tensor([0, 2, 3, 5]))
    with pytest.raises(AssertionError):  # the comparison sees another history
        torch.testing.assert_close(model(batch | {"history": other}), by_hand(model, batch))


def test_gradients_are_those_of_the_formula():
    grads = []
    for forward in (lambda model: model(BATCH), lambda model: by_hand(model, BATCH)):
        model = din()
        sparse = SparseAdam(filter_out_sparse_param(model), 0.1)
        forward(model).square().sum().backward()
        dense = [p.grad for p in model.parameters() if p.grad is not None]
        sparse.step()
        grads.append((dense, model.embeddings.table("item").lookup([1, 2, 4, 5, 9])[0]))
    for ours, theirs in zip(grads[0][0], grads[1][0], strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(grads[0][1], grads[1][1])


def test_history_and_target_share_a_table():
    model = din()
    model(BATCH)
    assert sorted(filter_out_sparse_param(model)) == ["item", "user"]
    assert model.embeddings.table("item").ids().tolist() == [1, 2, 4, 5, 9]


@pytest.mark.parametrize("activation", ["dice", "prelu", "relu"])
def test_batches_without_events_or_rows(activation):
    model = din(activation=activation)
    nothing = RaggedTensor(torch.zeros(0, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))
    empty = model(BATCH | {"history": nothing})
    assert empty.shape == (3,)
    assert empty.isfinite().all()
    empty.sum().backward()
    one = {"item": torch.tensor([4]), "user": torch.tensor([7]), "history": HISTORY.rows(0, 1)}
    assert model(one).isfinite().all()  # a row and two events have no variance worth the name
    none = {"item": torch.zeros(0, dtype=torch.int64), "user": torch.zeros(0, dtype=torch.int64)}
    assert model(none | {"history": HISTORY.rows(0, 0)}).shape == (0,)


def test_a_longer_batch_changes_no_row():
    """In eval a row's logit is its own: nothing is padded."""
    model = din(activation="dice")
    model(BATCH)
    model.eval()
    whole = model(BATCH)
    for i in range(3):
        row = {"item": BATCH["item"][i : i + 1], "user": BATCH["user"][i : i + 1], "history": HISTORY.rows(i, i + 1)}
        torch.testing.assert_close(model(row), whole[i : i + 1])


def test_two_histories_of_two_targets():
    torch.manual_seed(0)
    model = DIN(["item", "shop"], 4, histories={"items": "item", "shops": "shop"}, backend="torch")
    batch = {"item": BATCH["item"], "shop": BATCH["user"], "items": HISTORY, "shops": HISTORY}
    assert model(batch).shape == (3,)
    assert sorted(model.embeddings.sparse_parameters()) == ["item", "shop"]
    assert set(model.sparse_features({**batch, "label": 1})) == set(batch)


@pytest.mark.parametrize(
    "history",
    [HISTORY.rows(0, 2), RaggedTensor(torch.tensor([4]), [torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1])])],
    ids=["of two rows", "of two levels"],
)
def test_a_history_that_does_not_fit_its_target_is_refused(history):
    model = din()
    with pytest.raises(ValueError, match="history 'history' must have one level, and a row for each of 'item', 3; got"):
        model(BATCH | {"history": history})
    assert len(model.embeddings.table("item")) == 0


def test_dice_is_its_formula():
    dice, s = Dice(2), torch.tensor([[1.0, 2.0], [3.0, -2.0], [-1.0, 0.5]])
    with torch.no_grad():
        dice.alpha.copy_(torch.tensor([0.1, 0.2]))
    p = torch.sigmoid((s - s.mean(0)) / (s.var(0, correction=0) + 1e-8).sqrt())
    torch.testing.assert_close(dice(s), p * s + (1 - p) * dice.alpha * s)
    dice.eval()
    mean, var = dice.normal.running_mean, dice.normal.running_var
    p = torch.sigmoid((s - mean) / (var + 1e-8).sqrt())
    torch.testing.assert_close(dice(s), p * s + (1 - p) * dice.alpha * s)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"histories": {}}, "histories must name a history and its target"),
        ({"histories": {"history": "shop"}}, "target of history 'history' must be one of the fields .* got 'shop'"),
        ({"histories": {"user": "item"}}, "history 'user' is named as a field"),
        ({"activation": "gelu"}, "activation must be one of dice, prelu, relu; got 'gelu'"),
        ({"sharding": {"history": "column"}}, "which the model does not have"),
    ],
)
def test_wrong_arguments_are_named(kwargs, said):
    with pytest.raises(ValueError, match=said):
        din(**kwargs)
