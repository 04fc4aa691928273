"""torch's own clippers on a joined optimizer's parameters: by the norm over both sides, or refused."""

import math

import pytest
import torch
from torch import nn

from recis_core.backends.errors import RecisError
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD, clip_grad_norm_, join

IDS = torch.tensor([1, 2, 2])


def build(backend="torch", apart=False, dtype=torch.float32):
    """A step's gradients on both sides. apart: tables of one storage in two groups, and one of its own."""
    torch.manual_seed(0)
    engine = EmbeddingEngine({n: EmbeddingOption(4 if n != "c" else 3, backend=backend) for n in "abc"})
    tower = nn.Linear(11, 1, dtype=dtype)
    sparse = SparseSGD({"a": engine.table("a")} if apart else engine.sparse_parameters(), lr=0.1)
    if apart:
        sparse.add_params({"b": engine.table("b")}, lr=0.1)
        sparse.add_params({"c": engine.table("c")}, lr=0.1)
    optimizer = join(torch.optim.SGD(tower.parameters(), lr=0.1), sparse)
    backward(engine, tower)
    return engine, tower, optimizer


def backward(engine, tower, scale=1.0):
    out = engine(dict.fromkeys("abc", IDS))
    (tower(torch.cat(list(out.values()), 1).to(tower.weight.dtype)).square().sum() * 10 * scale).backward()


def parameters_of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def moved(engine, tower, optimizer):
    before = [engine.table(n).embeddings().clone() for n in "abc"] + [tower.weight.detach().clone()]
    optimizer.step()
    after = [engine.table(n).embeddings() for n in "abc"] + [tower.weight.detach()]
    return [b - a for a, b in zip(after, before, strict=True)]


def both_ways(theirs, ours=lambda o: clip_grad_norm_(o, 0.5), **options):
    got, want = [], []
    for clip, result in ((theirs, got), (ours, want)):
        engine, tower, optimizer = build(**options)
        norm = clip(optimizer)
        result += [norm.double().cpu(), *moved(engine, tower, optimizer)]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("foreach", [None, False, True])
def test_clip_grad_norm_of_torch_clips_by_the_norm_over_both_sides(eager_backend, apart, foreach):
    if eager_backend in ("jax", "pallas") and (foreach is not None or apart):
        pytest.skip("says nothing new of the eager_backend, and compiles")
    both_ways(
        lambda o: nn.utils.clip_grad_norm_(parameters_of(o), 0.5, foreach=foreach), backend=eager_backend, apart=apart
    )


def test_beside_float64_parameters_whose_gradients_are_clipped_in_one_call():
    both_ways(lambda o: nn.utils.clip_grad_norm_(parameters_of(o), 0.5), dtype=torch.float64)


def test_its_two_halves_and_loops_by_hand_do_the_same():
    def halves(optimizer):
        norm = nn.utils.get_total_norm([p.grad for p in parameters_of(optimizer)])
        nn.utils.clip_grads_with_norm_(parameters_of(optimizer), 0.5, norm)
        return norm

    def by_hand(optimizer):
        norms = [p.grad.detach().data.norm(2) for p in parameters_of(optimizer)]
        norm = torch.stack([n.double() for n in norms]).norm()
        for p in parameters_of(optimizer):
            p.grad.detach().mul_(float(0.5 / (norm + 1e-6)))
        return norm

    both_ways(halves)
    both_ways(by_hand)


def test_after_unscale_it_sees_true_norms():
    engine, tower, optimizer = build()
    norm = clip_grad_norm_(optimizer, 1e9)
    optimizer.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    backward(engine, tower, 2.0**12)
    scaler._lazy_init_scale_growth_tracker(torch.device("cpu"))
    scaler.unscale_(optimizer)
    assert float(nn.utils.clip_grad_norm_(parameters_of(optimizer), 1e9)) == pytest.approx(float(norm), rel=1e-6)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)


@pytest.mark.parametrize("norm_type", [1, 3.0, math.inf])
def test_other_norms_are_refused(norm_type):
    _, _, optimizer = build()
    with pytest.raises(RecisError, match="norm_type=2 alone"):
        nn.utils.clip_grad_norm_(parameters_of(optimizer), 0.5, norm_type=norm_type)


@pytest.mark.parametrize("foreach", [None, False, True])
def test_clipping_by_value_is_refused_and_leaves_rows(foreach):
    engine, tower, optimizer = build()
    with pytest.raises(RecisError, match=r"would need its rows.*clip by value the dense parameters alone"):
        nn.utils.clip_grad_value_(parameters_of(optimizer), 1e-3, foreach=foreach)
    assert optimizer.sparse.handles()[0].factor() == 1.0
    nn.utils.clip_grad_value_(optimizer.dense.param_groups[0]["params"], 1e-3)
    assert moved(engine, tower, optimizer)[3].abs().max() <= 1.01e-4


@pytest.mark.parametrize(
    "use",
    [
        lambda g: g.add_(1.0), lambda g: g.clamp_(max=1.0), lambda g: g.copy_(torch.ones(1)), lambda g: g.fill_(0.1),
        lambda g: g.pow(2), lambda g: g**2, lambda g: g.abs().max(), lambda g: torch.cat([g.flatten()]), lambda g: g.sum(),
        lambda g: torch.sign(g), lambda g: g.normal_(), lambda g: g.__setitem__(0, 1.0), lambda g: g + 1, lambda g: 2 * g,
        lambda g: torch._foreach_add_([g], 1.0), lambda g: g.square_(),
    ],
)  # fmt: skip
def test_what_would_need_rows_is_refused(use):
    _, _, optimizer = build()
    grad = parameters_of(optimizer)[-1].grad
    with pytest.raises(RecisError, match="would need its rows"):
        use(grad)
    assert optimizer.sparse.handles()[0].factor() == 1.0


def test_what_scales_or_only_looks_is_taken():
    _, _, optimizer = build()
    grad = parameters_of(optimizer)[-1].grad
    grad.mul_(0.5)
    grad /= 2
    torch._foreach_mul_([grad], 2.0)
    assert optimizer.sparse.handles()[0].factor() == 0.5
    assert (grad.device.type, grad.dtype, tuple(grad.shape), grad.is_sparse) == ("cpu", torch.float64, (1,), False)
    assert bool(grad.isfinite().all())
    assert "RowsGradient" in repr(grad)
    grad.zero_()
    assert optimizer.sparse.squared_norm() == 0.0
