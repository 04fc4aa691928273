"""Every rule and dtype beside the torch side's optimizer, by the same gradients; two tables in one storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import recis_core.jax as rj
from recis_core import optim
from recis_core.jax.rows import snapshot_of
from recis_core.nn import EmbeddingEngine, EmbeddingOption, NormalInitializer
from tests.jax_tables.twins import assert_same

N, D = 64, 6
CASES: dict[str, tuple[rj.Rule, Callable[[Any], Any]]] = {
    "adam": (rj.Adam(lr=0.1), lambda p: optim.SparseAdam(p, lr=0.1)),
    "adamw": (rj.AdamW(lr=0.1), lambda p: optim.SparseAdamW(p, lr=0.1)),
    "adamwtf": (rj.AdamWTF(lr=0.1), lambda p: optim.SparseAdamWTF(p, lr=0.1)),
    "sgd": (rj.SGD(lr=0.1, weight_decay=0.1), lambda p: optim.SparseSGD(p, lr=0.1, weight_decay=0.1)),
    "momentum": (rj.SGD(lr=0.1, momentum=0.9), lambda p: optim.SparseSGD(p, lr=0.1, momentum=0.9)),
    "adagrad": (
        rj.Adagrad(lr=0.1, lr_decay=0.1, initial_accumulator_value=0.5),
        lambda p: optim.SparseAdagrad(p, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.5),
    ),
    "rowwise_adagrad": (rj.RowWiseAdagrad(lr=0.1), lambda p: optim.SparseRowWiseAdagrad(p, lr=0.1)),
}


@jax.jit
def step(state: rj.TableState, ids: Any, scale: Any) -> rj.TableState:
    state, rows, ticket = rj.lookup(state, ids)
    return rj.update(state, ticket, jax.tree.map(lambda r, s: r * s[:, None] + 0.1, rows, scale))


def torch_step(engine: EmbeddingEngine, optimizer: Any, ids: dict[str, Any], scale: dict[str, Any]) -> None:
    rows = engine({name: torch.from_numpy(x)[:, None] for name, x in ids.items()})
    loss = sum((0.5 * rows[n] ** 2 * torch.from_numpy(scale[n])[:, None] + 0.1 * rows[n]).sum() for n in ids)
    loss.backward()
    optimizer.step()


def trained(rule: rj.Rule, make: Any, dtype: str, steps: int) -> tuple[rj.TableState, EmbeddingEngine]:
    init = NormalInitializer(0.0, 0.1)
    names = ("a", "b")
    state = rj.create(rj.TableConfig(names, D, rule, rows=500, initializer=init, seed=1, dtype=dtype))
    option = EmbeddingOption(D, block_size=500, initializer=init, seed=1, dtype=getattr(torch, dtype), backend="torch")
    engine = EmbeddingEngine(dict.fromkeys(names, option))
    optimizer, random = make(engine.sparse_parameters()), np.random.default_rng(0)
    for _ in range(steps):
        ids = {name: random.integers(-40, 40, N) * 2**50 for name in names}
        scale = {name: random.normal(size=N).astype(np.float32) for name in names}
        state = step(state, jax.tree.map(rj.words, ids), jax.tree.map(jnp.asarray, scale))
        torch_step(engine, optimizer, ids, scale)
    rj.check(state)
    moved = rj.from_table(engine.sparse_parameters()["a"])
    assert moved.config.rule == rule
    assert moved.applied.tolist() == state.applied.tolist() == [steps, steps]
    return state, engine


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_its_optimizer(name: str) -> None:
    state, engine = trained(*CASES[name], "float32", 12)
    assert_same(snapshot_of(state), engine.sparse_parameters()["a"].physical.export())


@pytest.mark.full
def test_bfloat16_rounds_by_the_same_noise() -> None:
    """A last bit of float32 may tip a rounding: few values differ, by one step of bfloat16."""
    state, engine = trained(*CASES["adagrad"], "bfloat16", 3)
    ours, theirs = snapshot_of(state).weights, engine.sparse_parameters()["a"].physical.export().weights
    assert ours.dtype == torch.bfloat16
    assert (ours != theirs).float().mean() < 0.01
    torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=1e-6)


def test_numbers_are_those_of_the_torch_side() -> None:
    """To the last bit of float32: they are worked out in float64 inside the program."""
    from recis_core.jax.rules import hyper_of

    engine = EmbeddingEngine({"a": EmbeddingOption(D, backend="torch")})
    rule, make = CASES["adamw"]
    optimizer = make(engine.sparse_parameters())
    for t in (1, 2, 1000):
        wanted = np.array(optimizer.numbers(optimizer.param_groups[0], t), np.float32)
        got = jax.jit(lambda t: hyper_of(rule, None, t))(jnp.array([t], jnp.int32))[0]
        np.testing.assert_array_equal(got, wanted)
