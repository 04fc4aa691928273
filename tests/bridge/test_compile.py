"""jax_function inside torch.compile: one opaque operator, and no gradient lost."""

import jax.numpy as jnp
import pytest
import torch

from recis_core.bridge import jax_function


@jax_function
def layer(x, params, *, scale=1.0):
    hidden = jnp.tanh(x @ params["w"]) * scale
    return hidden, jnp.argmax(hidden, -1), jnp.sum(hidden)


@jax_function
def cube(x):
    return x**3


def loss(x, w):
    """Three calls, two alike, one unused; some outputs unused; one result feeds the next call."""
    first = layer(x * 2, {"w": w}, scale=2.0)
    again = layer(x * 2, {"w": w}, scale=2.0)
    layer(x + 1, {"w": w})
    return (cube(first[0]) * again[1][:, None]).sum() + again[2]


def gradients(f):
    torch.manual_seed(0)
    x, w = torch.randn(5, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)
    value = f(x, w)
    value.backward()
    return value.detach(), x.grad, w.grad


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
@pytest.mark.filterwarnings("default:.*torch.jit:DeprecationWarning")  # inductor uses it itself
def test_a_full_graph_keeps_every_gradient(backend):
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend=backend, fullgraph=True)
    for got, expected in zip(gradients(compiled), gradients(loss), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_sizes_that_change_compile_anew_and_are_right():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: cube(x).sum(), backend="aot_eager", fullgraph=True, dynamic=True)
    for n in (3, 4, 5):
        x = torch.full((n,), 2.0, requires_grad=True)
        compiled(x).backward()
        assert torch.equal(x.grad, torch.full((n,), 12.0))


def test_inputs_without_gradient_get_none():
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    x, w = torch.randn(5, 4), torch.randn(4, 4, requires_grad=True)
    compiled(x, w).backward()
    assert x.grad is None
    assert w.grad is not None
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, w), loss(x, w))
