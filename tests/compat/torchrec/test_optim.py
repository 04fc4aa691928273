"""Optimizers in backward and over both sides, by hand and beside torch's on dense rows."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from recis_core.compat.torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from recis_core.compat.torchrec.distributed import DistributedModelParallel
from recis_core.compat.torchrec.optim import (
    SGD,
    Adam,
    CombinedOptimizer,
    KeyedOptimizerWrapper,
    RowWiseAdagrad,
    apply_optimizer_in_backward,
)
from recis_core.compat.torchrec.optim.optimizers import in_backward_optimizer_filter
from recis_core.errors import RecisError
from tests.compat.torchrec.batches import IDS, bags, batch, weights_of


class Model(nn.Module):
    """A dense layer over the pooled rows."""

    def __init__(self) -> None:
        super().__init__()
        self.ebc, self.over = bags(), nn.Linear(8, 1)
        nn.init.constant_(self.over.weight, 0.5)

    def forward(self) -> torch.Tensor:
        return self.over(self.ebc(batch()).values()).square().mean()


def dense_twin(ebc: Any) -> list[nn.Parameter]:
    """t_user and t_both as dense parameters."""
    return [nn.Parameter(table.clone()) for table in weights_of(ebc)]


def loss_of(tables: list[nn.Parameter]) -> torch.Tensor:
    """The sum of squares of the batch's pooled rows, of dense tables."""
    user, both = tables
    pooled = [
        torch.stack([user[7] + user[9], user[0] * 0, user[7]]),
        torch.stack([both[3], both[4], both[3] + both[3] + both[0]]),
        torch.stack([both[7] + both[9], both[0] * 0, both[7]]),
    ]
    return torch.cat(pooled, 1).square().sum()


def touched(tables: Any) -> list[torch.Tensor]:
    """The rows of the batch's ids."""
    return [tables[0][[7, 9]].detach(), tables[1][sorted(set(IDS))].detach()]


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.interface`:DeprecationWarning"
)  # torch's own, where it imports its optim
@pytest.mark.parametrize("way", ["in_backward", "torch's in_backward", "keyed"])
@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (torch.optim.SGD, {"lr": 0.01}),
        (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
        (torch.optim.Adagrad, {"lr": 0.1}),
        (RowWiseAdagrad, {"lr": 0.1}),
        (torch.optim.Adam, {"lr": 0.1, "eps": 1e-3}),
        (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
    ],
)
def test_four_steps_are_those_of_dense_rows(kind: Any, numbers: dict[str, float], way: str) -> None:
    ebc = bags()
    dense = dense_twin(ebc)
    expected, step = kind(dense, **numbers), lambda: None
    if way == "keyed":
        optimizer = KeyedOptimizerWrapper(dict(ebc.named_parameters()), lambda params: kind(params, **numbers))
        step = optimizer.step
    elif way == "in_backward":
        apply_optimizer_in_backward(kind, ebc.parameters(), numbers)
    else:
        from torch.distributed.optim import _apply_optimizer_in_backward

        _apply_optimizer_in_backward(kind, list(ebc.parameters()), numbers)
    for _ in range(4):
        ebc(batch()).values().square().sum().backward()
        step()
        expected.zero_grad()
        loss_of(dense).backward()
        expected.step()
    for found, wanted in zip(touched(weights_of(ebc)), touched(dense), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert ebc.embedding_bags["t_user"].weight.grad is None


def test_dense_parameters_and_tables_step_together() -> None:
    model = Model()
    optimizer = KeyedOptimizerWrapper(dict(model.named_parameters()), lambda params: torch.optim.SGD(params, lr=0.1))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step == 0 else 0.0)
    first = model()
    first.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    dense = sum(float(p.grad.square().sum()) for p in model.over.parameters() if p.grad is not None)
    assert norm.square() > dense + 1e-6  # the tables' gradients count
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    second = model()
    assert second < first
    second.backward()
    optimizer.step()
    assert model().item() == pytest.approx(second.item(), abs=1e-7)  # the schedule has set lr to 0 on both sides


def test_a_scaler_scales_both_sides_and_skips_both() -> None:
    scaled, plain = Model(), Model()
    plain.load_state_dict(scaled.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    steps = [
        KeyedOptimizerWrapper(dict(m.named_parameters()), lambda params: torch.optim.Adagrad(params, lr=0.1))
        for m in (scaled, plain)
    ]
    for _ in range(2):
        scaler.scale(scaled()).backward()
        scaler.step(steps[0])
        scaler.update()
        plain().backward()
        for optimizer in steps:
            if optimizer is steps[1]:
                optimizer.step()
            optimizer.zero_grad()
    for name, value in scaled.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-5, atol=1e-7)
    before = scaled.state_dict()
    (scaler.scale(scaled()) * float("inf")).backward()
    scaler.step(steps[0])
    scaler.update()
    assert scaler.get_scale() == 32.0
    assert all(torch.equal(value, before[name]) for name, value in scaled.state_dict().items() if "ebc" in name)


def test_plain_optimizers_are_refused_before_they_change_anything() -> None:
    model = Model()
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.Adagrad):
        optimizer, before = kind(model.parameters(), lr=0.1), model.over.weight.detach().clone()
        model().backward()
        with pytest.raises(RecisError, match="no optimizer that can step it. Give it one .*KeyedOptimizerWrapper"):
            optimizer.step()
        assert torch.equal(model.over.weight, before)
        model.zero_grad()
        assert all(parameter.grad is None for parameter in model.parameters())


def test_a_table_whose_optimizer_is_gone_is_refused_again() -> None:
    model = Model()
    optimizer = KeyedOptimizerWrapper(dict(model.named_parameters()), lambda params: torch.optim.SGD(params, lr=0.1))
    model().backward()
    optimizer.step()
    del optimizer
    gc.collect()
    model.zero_grad()
    model().backward()
    with pytest.raises(RecisError, match="no optimizer that can step it"):
        torch.optim.SGD(model.parameters(), lr=0.1).step()


def test_rules_that_tables_do_not_have() -> None:
    ebc = bags()
    with pytest.raises(RecisError, match=r"tables have no rule of torch\.optim\.adadelta\.Adadelta; they have SGD"):
        apply_optimizer_in_backward(torch.optim.Adadelta, ebc.parameters(), {"lr": 0.1})
    with pytest.raises(ValueError, match="weight_decay of Adam on tables must be 0; got 0.1. AdamW"):
        apply_optimizer_in_backward(torch.optim.Adam, ebc.parameters(), {"lr": 0.1, "weight_decay": 0.1})
    assert [name for name, _ in in_backward_optimizer_filter(ebc.named_parameters(), include=True)] == []
    with pytest.raises(RecisError, match="steps tables alone"):
        SGD([nn.Parameter(torch.ones(1))]).step()


def test_tables_of_one_storage_have_one_kind_of_optimizer() -> None:
    configs = [EmbeddingBagConfig(10, 2, name, feature_names=[name]) for name in ("user", "item")]
    for kinds, message in (([SGD, Adam], "share storage.*SGD and Adam"), ([SGD], "SGD and None"), ([SGD, SGD], None)):
        ebc = EmbeddingBagCollection(configs)
        for kind, parameter in zip(kinds, ebc.parameters(), strict=False):
            apply_optimizer_in_backward(kind, [parameter], {"lr": 0.1})
        if message is None:
            ebc(batch())
        else:
            with pytest.raises(RecisError, match=message):
                ebc(batch())
    apart = EmbeddingBagCollection(configs, table_options={"user": {"storage": "own"}})
    for kind, parameter in zip((SGD, Adam), apart.parameters(), strict=True):
        apply_optimizer_in_backward(kind, [parameter], {"lr": 0.1})
    before = apart.state_dict()
    apart(batch()).values().sum().backward()
    assert not any(torch.equal(value, before[name]) for name, value in apart.state_dict().items())


def test_a_table_has_one_optimizer_in_backward() -> None:
    ebc = bags()
    for _ in range(2):
        apply_optimizer_in_backward(SGD, ebc.parameters(), {"lr": 0.1})
    with pytest.raises(RecisError, match="one optimizer; it was given 2"):
        ebc(batch())


def test_states_of_optimizers_come_back_in_any_order() -> None:
    def made() -> tuple[Model, CombinedOptimizer]:
        model = Model()
        apply_optimizer_in_backward(torch.optim.Adam, [model.ebc.embedding_bags["t_user"].weight], {"lr": 0.1})
        rest = dict(in_backward_optimizer_filter(model.named_parameters()))
        keyed = KeyedOptimizerWrapper(rest, lambda params: torch.optim.Adagrad(params, lr=0.1))
        return model, CombinedOptimizer([DistributedModelParallel(model).fused_optimizer, ("rest", keyed)])

    def train(model: Model, optimizer: CombinedOptimizer, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    first, optimizer = made()
    train(first, optimizer, 3)
    states = copy.deepcopy((first.state_dict(), optimizer.state_dict()))  # torch's own states are its live tensors
    went_on = train(first, optimizer, 3)
    for order in ((0, 1), (1, 0)):
        model, other = made()
        for part in order:
            (model, other)[part].load_state_dict(copy.deepcopy(states[part]))  # type: ignore[arg-type]
        assert train(model, other, 3) == went_on


def test_states_of_others_are_refused_and_change_nothing() -> None:
    model = Model()
    apply_optimizer_in_backward(torch.optim.Adam, [model.ebc.embedding_bags["t_user"].weight], {"lr": 0.1})
    rest = dict(in_backward_optimizer_filter(model.named_parameters()))
    keyed = KeyedOptimizerWrapper(rest, lambda params: torch.optim.Adagrad(params, lr=0.1))
    optimizer = CombinedOptimizer([DistributedModelParallel(model).fused_optimizer, keyed])
    model().backward()
    optimizer.step()
    good = optimizer.state_dict()
    before, rows = copy.deepcopy(good), model.state_dict()
    fused, wrapped = "0", "1"
    for path, wrong, message in (
        ((), {"parts": {}}, "state must be of optimizers"),
        (
            ("parts", wrapped, "slots", "ebc.embedding_bags.t_both.weight"),
            {"ids": torch.zeros(1)},
            "must have ids, int64",
        ),
        (
            ("parts", fused, "slots", "ebc.embedding_bags.t_user.weight", "m"),
            torch.zeros(1, 2),
            r"m \[n, 2\], v \[n, 2\]",
        ),
        (("parts", wrapped, "parts", ""), {"dense": {}}, "holds dense, sparse"),
        (("parts", fused, "parts", "0"), {}, "another optimizer's"),
    ):
        bad: Any = copy.deepcopy(good)
        at: Any = bad
        for key in path[:-1]:
            at = at[key]
        if path:
            at[path[-1]] = wrong
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(bad if path else wrong)
    for now, then in zip(tree_leaves(optimizer.state_dict()), tree_leaves(before), strict=True):
        assert torch.equal(now, then) if isinstance(now, torch.Tensor) else now == then
    assert all(torch.equal(value, rows[name]) for name, value in model.state_dict().items())


def test_numbers_of_optimizers_in_backward_can_be_set() -> None:
    model = Model()
    apply_optimizer_in_backward(torch.optim.SGD, model.ebc.parameters(), {"lr": 0.1})
    fused = DistributedModelParallel(model).fused_optimizer
    assert [group["lr"] for group in fused.param_groups] == [0.1, 0.1]
    for group in fused.param_groups:
        group["lr"] = 0.0
    before = model.ebc.state_dict()
    model().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.ebc.state_dict().items())


def test_a_graph_that_looks_up_twice_steps_once() -> None:
    ebc = bags()
    apply_optimizer_in_backward(torch.optim.SGD, ebc.parameters(), {"lr": 0.1})
    before = weights_of(ebc)[0]
    (ebc(batch())["user@t_user"].sum() + ebc(batch())["user@t_user"].sum()).backward()
    after = weights_of(ebc)[0]
    torch.testing.assert_close(after[7], before[7] - 0.1 * 4)
    torch.testing.assert_close(after[9], before[9] - 0.1 * 2)
    with torch.no_grad():
        ebc(batch())
    assert torch.equal(weights_of(ebc)[0], after)
