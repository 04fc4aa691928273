"""Gradients, scales and rates at the edges of float32, through an engine and an optimizer."""

import math

import numpy as np
import pytest
import torch

from recis_core.backends.errors import NonFiniteGradient
from recis_core.exchange.adaptive import Chooser
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdamW, SparseSGD, clip_grad_norm_
from recis_core.options.precision import Direction

BACKENDS = ("torch", "numba", "jax")
IDS = torch.tensor([3, 5, 7])


def build(backend, gradient, optimizer=SparseSGD, **numbers):
    """Three rows of four columns, each with a gradient of `gradient` throughout."""
    engine = EmbeddingEngine({"a": EmbeddingOption(4, backend=backend)})
    sparse = optimizer(engine.sparse_parameters(), **numbers)
    engine({"a": IDS})["a"].backward(torch.full((3, 4), gradient))
    before = engine.table("a").embeddings().clone()
    return engine, sparse, before


def moved(engine, before):
    return (engine.table("a").embeddings() - before).double()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gradient", [1e-30, 1e-10, 1.0, 1e20, 3e38])
def test_clipping_reaches_its_norm_from_any(backend, gradient):
    engine, sparse, before = build(backend, gradient, lr=1.0)
    norm = clip_grad_norm_([], 1.0, sparse=sparse)
    want = gradient * math.sqrt(12)
    assert math.isclose(float(norm), want if want < 3.4e38 else math.inf, rel_tol=1e-6)
    sparse.step()
    assert math.isclose(-float(moved(engine, before)[0, 0]), min(1, want) / math.sqrt(12), rel_tol=1e-4, abs_tol=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("power", [-140, -126, -40, 40, 100])
def test_unscaling_by_any_power(backend, power):
    """A gradient of 2^-power, unscaled by 2^power: a step of one, whatever the scale."""
    size = 2.0 ** max(-126, min(127, -power))
    engine, sparse, before = build(backend, size, lr=1.0)
    for handle in sparse.handles():
        handle.grad.mul_(2.0**power)
    sparse.step()
    step = moved(engine, before)
    assert torch.allclose(step, torch.full_like(step, -size * 2.0**power), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [math.inf, -math.inf, math.nan])
def test_a_scale_that_is_not_finite_changes_nothing(backend, scale):
    engine, sparse, before = build(backend, 1.0, lr=1.0)
    for handle in sparse.handles():
        handle.grad.mul_(scale)
    with pytest.raises(NonFiniteGradient):
        sparse.step()
    assert not moved(engine, before).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_beyond_float32_are_refused_before_a_step(backend):
    """lr is a float64 that float32 lacks; AdamW's decay 1 − lr·wd becomes one."""
    for kind, numbers, name in (
        (SparseSGD, {"lr": 1e39}, "lr"),
        (SparseAdamW, {"lr": 1e30, "weight_decay": 1e10}, "decay"),
    ):
        engine, sparse, before = build(backend, 1.0, kind, **numbers)
        with pytest.raises(ValueError, match=f"{name} of tables .'a'. must be finite and below 2"):
            sparse.step()
        assert sparse.state_dict()["t"] == {"a": 0}
        assert not moved(engine, before).any()


def test_errors_of_rows_that_are_not_finite_choose_no_codec():
    chooser = Chooser(Direction.parse("auto(0.01)"))
    before = chooser.at(5)
    for bad in (math.inf, math.nan):
        for _ in range(50):
            chooser.observe(5, [0.0], [bad])
    assert chooser.at(5) == before
    chooser.measure(torch.full((2, 2), 3e38), torch.full((2, 2), 1e36))
    lost, whole = chooser.take()
    assert np.isclose(lost / whole, (1e36 / 3e38) ** 2)
