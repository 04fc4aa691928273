"""State dicts of sparse and joined optimizers: hooks, and states of another kind, which change nothing."""

import copy
import math

import pytest
import torch
from torch import nn

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import (
    SparseAdagrad,
    SparseAdam,
    SparseAdamW,
    SparseAdamWTF,
    SparseRowWiseAdagrad,
    SparseSGD,
    join,
)

KINDS = (SparseAdam, SparseAdamW, SparseAdamWTF, SparseAdagrad, SparseRowWiseAdagrad, SparseSGD)
DENSE = (torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop)


def optimizer_of(kind, **numbers):
    engine = EmbeddingEngine({"a": EmbeddingOption(2, backend="torch")})
    optimizer = kind(engine.sparse_parameters(), **numbers)
    engine({"a": torch.tensor([1])})["a"].sum().backward()
    optimizer.step()
    return engine, optimizer


def joined(dense=torch.optim.Adam, sparse=SparseAdam):
    tower = nn.Linear(2, 1)
    engine, optimizer = optimizer_of(sparse)
    joint = join(dense(tower.parameters(), lr=0.1), optimizer)
    tower(engine({"a": torch.tensor([1])})["a"]).sum().backward()
    joint.step()
    joint.kept = engine, tower
    return joint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_state_of_another_rule_is_refused(kind, other):
    (_, mine), (_, theirs) = optimizer_of(kind, lr=0.5), optimizer_of(other, lr=0.25)
    before = copy.deepcopy(mine.state_dict())
    if kind.rule_kind == other.rule_kind:
        mine.load_state_dict(theirs.state_dict())
        assert mine.param_groups[0]["lr"] == 0.25
        return
    with pytest.raises(ValueError, match=r"another kind of optimizer.*Load the tables' rows alone"):
        mine.load_state_dict(theirs.state_dict())
    assert mine.state_dict() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_torchs_is_refused(kind):
    _, mine = optimizer_of(kind)
    dense = torch.optim.Adam([nn.Parameter(torch.ones(1))]).state_dict()
    for state in (dense, {}, None, {"dense": dense, "sparse": mine.state_dict()}):
        with pytest.raises(ValueError, match=r"holds t, grad_accum_steps, param_groups; got .*another optimizer's"):
            mine.load_state_dict(state)


def test_states_from_before_betas_went_by_torchs_name_load():
    _, mine = optimizer_of(SparseAdam)
    old = mine.state_dict()
    group = old["param_groups"][0]
    del group["kind"], group["betas"]
    group |= {"beta1": 0.5, "beta2": 0.25}
    mine.load_state_dict(old)
    assert mine.param_groups[0]["betas"] == (0.5, 0.25)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_numbers_that_are_none_are_refused_before_anything_changes(value):
    _, mine = optimizer_of(SparseAdam)
    before = mine.state_dict()
    for name in ("lr", "eps", "weight_decay", "betas"):
        bad = copy.deepcopy(before)
        bad["t"]["a"] = 99
        bad["param_groups"][0][name] = (value, 0.5) if name == "betas" else value
        with pytest.raises(ValueError, match=r"of tables \['a'\] in the state must be a finite number"):
            mine.load_state_dict(bad)
        assert mine.state_dict() == before
    with pytest.raises(ValueError, match=r"the state's t must be of tables"):
        mine.load_state_dict({**before, "t": {}})


@pytest.mark.parametrize("dense", DENSE)
@pytest.mark.parametrize("other", DENSE)
def test_a_joined_state_with_another_dense_kind_changes_neither_side(dense, other):
    mine, theirs = joined(dense), joined(other).state_dict()
    before = copy.deepcopy(mine.state_dict())
    if dense is other:
        mine.load_state_dict(theirs)
        return
    with pytest.raises((ValueError, KeyError), match="another kind than"):
        mine.load_state_dict(theirs)
    assert_equal(mine.state_dict(), before)


def test_a_joined_state_that_does_not_fit_changes_neither_side():
    mine = joined()
    good = mine.state_dict()
    before = copy.deepcopy(good)
    longer = {**good["dense"], "param_groups": [*good["dense"]["param_groups"], {"params": []}]}
    sgd = optimizer_of(SparseSGD)[1].state_dict()
    for state, message in (
        ({"dense": good["sparse"], "sparse": good["dense"]}, "the dense part is no state of Adam"),
        ({"dense": good["dense"], "sparse": good["dense"]}, "holds t, grad_accum_steps"),
        ({"dense": good["dense"], "sparse": sgd}, "another kind of optimizer"),
        ({"dense": longer, "sparse": good["sparse"]}, "groups hold"),
        ({"dense": {}, "sparse": good["sparse"]}, "no state of Adam"),
        (good["dense"], "holds dense, sparse"),
    ):
        changed = copy.deepcopy(state)
        if "sparse" in changed and "t" in changed["sparse"]:
            changed["sparse"]["t"] = {"a": 77}
        with pytest.raises(ValueError, match=message):
            mine.load_state_dict(changed)
        assert_equal(mine.state_dict(), before)


@pytest.mark.parametrize("make", [joined, lambda: optimizer_of(SparseAdam)[1]])
def test_hooks_of_states_run_and_may_replace_them(make):
    optimizer, calls = make(), []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "mark": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: calls.append(state.pop("mark")))
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append("after loading"))
    state = optimizer.state_dict()
    assert state["mark"] == 1
    optimizer.load_state_dict(state)
    assert state["mark"] == 1  # hooks get a shallow copy
    assert calls == ["before saving", 1, "after loading"]
    optimizer.register_load_state_dict_pre_hook(lambda o, state: {})
    with pytest.raises(ValueError, match="got "):
        optimizer.load_state_dict(state)


def assert_equal(one, other):
    """Of nested states with tensors."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other
