"""Accumulation, t, and state dicts of sparse optimizers; AdamWTF."""

from __future__ import annotations

import pytest
import torch

from recis_core.compat.recis.nn import EmbeddingEngine, EmbeddingOption
from recis_core.compat.recis.nn.modules.hashtable import HashTable, filter_out_sparse_param
from recis_core.compat.recis.optim import AdamWTF, SparseAdam, SparseAdamW, SparseAdamWTF
from recis_core.compat.recis.optim.adamw_tf import adamwtf, maybe_get_value

W0, GRADS = [1.0, -2.0], [[0.1, -0.2], [0.3, 0.1], [-0.05, 0.0]]
AFTER = {
    SparseAdam: [0.9974813102001914, -1.9985277859061172],
    SparseAdamWTF: [0.9678093879392737, -1.939148349241281],
}


def table_with(name: str, rows: dict[int, list[float]]) -> HashTable:
    table = HashTable([len(next(iter(rows.values())))], name=name)
    table.insert(torch.tensor(list(rows)), torch.tensor(list(rows.values())))
    return table


@pytest.mark.parametrize("kind", AFTER, ids=lambda kind: kind.__name__)
def test_three_steps_give_the_numbers_of_the_formula(fresh, kind: type[SparseAdam]) -> None:
    table = table_with(fresh("t"), {5: W0})
    optimizer = kind({"t": table._hashtable_impl})
    for grad in GRADS:
        (table(torch.tensor([5])) * torch.tensor(grad)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(table(torch.tensor([5])).detach()[0], torch.tensor(AFTER[kind]), rtol=0, atol=1e-6)


def test_step_and_zero_grad_act_on_each_nth_call_and_apply_the_mean(fresh) -> None:
    table = table_with(fresh("t"), {5: [0.0]})
    optimizer = SparseAdam({"t": table._hashtable_impl}, lr=1.0)
    optimizer.set_grad_accum_steps(3)
    seen = []
    for grad in (1.0, 2.0, 6.0):
        optimizer.zero_grad()
        (table(torch.tensor([5])) * grad).sum().backward()
        optimizer.step()
        seen.append(table(torch.tensor([5])).item())
    assert seen[:2] == [0.0, 0.0]
    assert seen[2] == pytest.approx(-1.0, abs=1e-6)
    moment = table.slot_group().slot_by_name("sparse_adam_exp_avg").value()
    assert moment[0].item() == pytest.approx(0.1 * 3.0)  # (1 + 2 + 6) / 3


def test_t_counts_the_steps_in_which_a_storage_had_a_gradient(fresh) -> None:
    options = {"early": EmbeddingOption(1, shared_name=fresh("e")), "late": EmbeddingOption(2, shared_name=fresh("l"))}
    engine = EmbeddingEngine(options)
    optimizer = SparseAdam(filter_out_sparse_param(engine), lr=1.0)
    for step in range(6):
        features = {"early": torch.tensor([[1]])} | ({"late": torch.tensor([[1]])} if step == 5 else {})
        sum(out.sum() for out in engine(features).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    late = engine({"late": torch.tensor([[1]])})["late"]
    torch.testing.assert_close(late.detach(), torch.full((1, 2), -1.0), rtol=0, atol=1e-6)  # -0.52 if t were 6


def test_t_does_not_count_a_forward_without_a_backward(fresh) -> None:
    table = table_with(fresh("t"), {5: [0.0]})
    optimizer = SparseAdam({"t": table._hashtable_impl})
    for backward in (False, True):
        out = table(torch.tensor([5])).sum()
        if backward:
            out.backward()
        optimizer.step()
    assert set(optimizer._tables.t.values()) == {1}


def test_state_dict_holds_tables_then_live_powers(fresh) -> None:
    names = [fresh("a"), fresh("b")]
    tables = {name: table_with(name, {5: [0.0]}) for name in names}
    optimizer = SparseAdamWTF({name: table._hashtable_impl for name, table in tables.items()}, beta1=0.8, beta2=0.99)
    state = optimizer.state_dict()
    prefix = "sparse_adamw_tf"
    assert list(state) == [*names, f"{prefix}_beta2", f"{prefix}_beta1", f"{prefix}_step"]
    for _ in range(3):
        tables[names[0]](torch.tensor([5])).sum().backward()
        optimizer.step()
    assert state[f"{prefix}_beta1"].item() == pytest.approx(0.8**3)
    assert state[f"{prefix}_step"].tolist() == [0]
    optimizer.load_state_dict({f"{prefix}_beta2": torch.tensor(0.99**37)})
    assert set(optimizer._tables.t.values()) == {37}
    with pytest.raises(ValueError, match="must hold sparse_adamw_tf_beta2"):
        optimizer.load_state_dict({})
    with pytest.raises(ValueError, match="must be in"):
        optimizer.load_state_dict({f"{prefix}_beta2": torch.tensor(2.0)})


def test_schedulers_drive_the_group_and_refused_arguments_say_so(fresh) -> None:
    params = {"t": table_with(fresh("t"), {5: [0.0]})._hashtable_impl}
    with pytest.raises(ValueError, match="no amsgrad"):
        SparseAdamW(params, amsgrad=True)
    with pytest.raises(ValueError, match="no use_nesterov"):
        SparseAdamWTF(params, use_nesterov=True)
    with pytest.raises(TypeError, match="'w' is a Tensor"):
        SparseAdam({"w": torch.ones(1)})
    optimizer = SparseAdamW(params, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert optimizer.filter_param_dict({"a": params["t"], "b": params["t"]}) == {"a": params["t"]}


@pytest.mark.parametrize("fuse", [True, False])
def test_adamwtf_gives_the_numbers_of_the_formula(fuse: bool) -> None:
    weight = torch.nn.Parameter(torch.tensor(W0, dtype=torch.float64))
    optimizer = AdamWTF([weight], fuse=fuse)
    for grad in GRADS:
        weight.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
    torch.testing.assert_close(weight.tolist(), AFTER[SparseAdamWTF], rtol=0, atol=1e-12)
    assert set(optimizer.state[weight]) == {"step", "exp_avg", "exp_avg_sq"}
    with pytest.raises(ValueError, match="lr must be"):
        AdamWTF([weight], lr=-1.0)


def test_adamwtf_as_a_function_is_the_optimizers_step() -> None:
    torch.manual_seed(0)
    start, grads = torch.randn(3), torch.randn(4, 3)
    parameter = torch.nn.Parameter(start.clone())
    optimizer = AdamWTF([parameter], lr=0.1)
    mine, states = start.clone(), [torch.zeros(3), torch.zeros(3), torch.tensor(0.0)]
    numbers = {"use_nesterov": False, "beta1": 0.9, "beta2": 0.999, "lr": torch.tensor(0.1), "weight_decay": 1e-2}
    for grad in grads:
        parameter.grad = grad.clone()
        optimizer.step()
        adamwtf([mine], [grad], *([state] for state in states), **numbers, eps=1e-8, maximize=False, fuse=True)
    assert torch.allclose(mine, parameter, rtol=1e-6)
    assert not torch.allclose(mine, start, rtol=1e-2)
    with pytest.raises(ValueError, match="leave grad_scale and found_inf out"):
        adamwtf(
            [mine], [grads[0]], *([s] for s in states), torch.ones(1), **numbers, eps=1e-8, maximize=False, fuse=True
        )
    assert (maybe_get_value(torch.tensor(2.5)), maybe_get_value(3)) == (2.5, 3)
