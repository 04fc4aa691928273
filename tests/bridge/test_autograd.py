"""jax_function beside the same formula in torch: values, gradients, and every mode torch may be in."""

import functools
import gc
import weakref
from collections import namedtuple

import jax
import jax.numpy as jnp
import pytest
import torch
from torch.autograd import gradcheck

from recis_core.bridge import BridgeError, jax_function

Pair = namedtuple("Pair", "left right")


@jax_function
def tower(x, params, *, scale=1.0):
    hidden = jnp.tanh(x @ params["w"]) * scale + params["b"]
    return hidden, jnp.argmax(hidden, -1)


def torch_tower(x, params, scale=1.0):
    hidden = torch.tanh(x @ params["w"]) * scale + params["b"]
    return hidden, hidden.argmax(-1).int()


square = jax_function(lambda x: x * x)


@jax_function
def three_outputs(x, y, n):
    return jnp.sin(x) * y, n + 1, jnp.cos(x)


def double(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def tower_inputs():
    torch.manual_seed(0)
    params = {"w": torch.randn(4, 2, requires_grad=True), "b": torch.randn(2, requires_grad=True)}
    return torch.randn(5, 4, requires_grad=True), params


def tower_gradients(f, **statics):
    x, params = tower_inputs()
    hidden, best = f(x * 2, params, **statics)
    (hidden * hidden).sum().backward()
    return hidden.detach(), best, x.grad, params["w"].grad, params["b"].grad


def close(got, expected, rtol=1e-4):
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * float(b.abs().max()))


def test_values_and_gradients_are_torchs():
    close(tower_gradients(tower, scale=2.0), tower_gradients(torch_tower, scale=2.0))


def test_statics_are_told_apart():
    x, params = tower_inputs()
    assert not torch.equal(tower(x, params, scale=2.0)[0], tower(x, params)[0])
    typed = jax_function(lambda x, *, k: x * k if isinstance(k, float) else x)
    assert torch.equal(typed(torch.ones(2, dtype=torch.int32), k=1), torch.ones(2, dtype=torch.int32))
    assert typed(torch.ones(2, dtype=torch.int32), k=1.0).dtype == torch.float32


def test_gradcheck_over_nested_arguments():
    f = jax_function(lambda a, rest: jnp.sin(a) * rest[0] / (1 + rest[1].left ** 2) + rest[1].right, x64=True)
    inputs = [double(3), double(3).mul(2).detach().requires_grad_(), double(3), double(3)]
    assert gradcheck(lambda a, b, c, d: f(a, [b, Pair(c, d), None]), inputs)


def test_gradcheck_of_complex_numbers():
    z = torch.complex(double(3), double(3) + 1).detach().requires_grad_()
    assert gradcheck(jax_function(lambda z: z * z * jnp.exp(1j * z), x64=True), (z,))


def test_gradcheck_of_a_custom_vjp():
    @jax.custom_vjp
    def doubled(x):
        return x * 2

    doubled.defvjp(lambda x: (x * 2, None), lambda _, g: (g * 2,))
    assert gradcheck(jax_function(doubled, x64=True), (double(3),))


def test_unused_outputs_are_zero_gradients_and_integers_have_none():
    x, y, n = double(5), double(5), torch.arange(5, dtype=torch.int32)
    x, y = x.detach().float().requires_grad_(), y.detach().float().requires_grad_()
    first, count, _ = three_outputs(x, y, n)
    assert not count.requires_grad
    first.sum().backward()
    close([x.grad, y.grad], [x.detach().cos() * y.detach(), x.detach().sin()])


def test_only_what_requires_grad_gets_one():
    x, y = torch.randn(5, requires_grad=True), torch.randn(5)
    first, _, _ = three_outputs(x, y, torch.arange(5, dtype=torch.int32))
    first.sum().backward()
    assert y.grad is None
    close([x.grad], [x.detach().cos() * y])
    assert not three_outputs(x.detach(), y, torch.arange(5, dtype=torch.int32))[0].requires_grad


def test_strided_unaligned_and_empty_inputs_and_gradients():
    wide = torch.randn(6, 8, requires_grad=True)
    square(wide[::2, 1:5]).expand(2, 3, 4).sum().backward()
    expected = torch.zeros(6, 8)
    expected[::2, 1:5] = 4 * wide.detach()[::2, 1:5]
    close([wide.grad], [expected])
    empty = torch.zeros(0, 4, requires_grad=True)
    square(empty).sum().backward()
    assert empty.grad.shape == (0, 4)


def test_outputs_never_share_memory_with_inputs_or_each_other():
    x = torch.randn(16)
    first, second = jax_function(lambda x: (x, x))(x)
    assert len({x.data_ptr(), first.data_ptr(), second.data_ptr()}) == 3


def test_no_grad_and_inference_mode():
    x, params = tower_inputs()
    expected = torch_tower(x, params)[0].detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            hidden, _ = tower(x, params)
        assert not hidden.requires_grad
        assert hidden.is_inference() == (mode is torch.inference_mode)
        close([hidden], [expected], rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_uses_tensors_as_given(dtype):
    linear = torch.nn.Linear(4, 4)
    with torch.autocast("cpu", dtype=dtype):
        hidden = linear(torch.ones(2, 4))
        out = square(hidden)
        full = square(hidden.float())
    assert (hidden.dtype, out.dtype, full.dtype) == (dtype, dtype, torch.float32)
    (out.sum() + full.sum()).backward()
    assert linear.weight.grad.dtype == torch.float32
    expected = (4 * hidden.detach().float().sum(0))[:, None].expand(4, 4)
    torch.testing.assert_close(linear.weight.grad, expected, rtol=3e-2, atol=3e-2 * float(expected.abs().max()))


def test_differentiating_twice_is_refused():
    x = torch.randn(3, requires_grad=True)
    (grad,) = torch.autograd.grad(square(x).sum(), x, create_graph=True)
    close([grad.detach()], [2 * x.detach()], rtol=1e-6)
    with pytest.raises(BridgeError, match=r"differentiated once.*jax\.grad"):
        grad.sum().backward()


def test_retain_graph_and_a_changed_input():
    x = torch.randn(3, requires_grad=True)
    out = square(x).sum()
    out.backward(retain_graph=True)
    out.backward()
    close([x.grad], [4 * x.detach()])
    with pytest.raises(RuntimeError, match="second time"):
        out.backward()
    out = square(y := x * 1).sum()
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_activation_checkpointing():
    x = torch.randn(3, requires_grad=True)
    torch.utils.checkpoint.checkpoint(lambda x: square(square(x)), x, use_reentrant=False).sum().backward()
    close([x.grad], [4 * x.detach() ** 3])


def test_each_shape_compiles_once():
    traces = []
    counted = jax_function(lambda x: traces.append(x.shape) or x * 2)
    for _ in range(3):
        for n in (3, 4):
            x = torch.ones(n, requires_grad=True)
            counted(x).sum().backward()
    assert sorted(traces) == [(3,), (3,), (4,), (4,)]  # forward and gradient


def test_inputs_are_let_go_with_the_graph():
    x = torch.randn(3, requires_grad=True) * 1
    alive = weakref.ref(x.untyped_storage())
    out = square(x).sum()
    del x
    out.backward()
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: square(3.0), TypeError, "got float.*by keyword"),
        (lambda: square(), TypeError, "at least one tensor"),
        (lambda: square(torch.arange(3)), BridgeError, "narrowed.*enable_x64"),
        (lambda: tower(*tower_inputs(), scale=[1]), TypeError, "hashable"),
        (lambda: jax_function(lambda x: {"a": x})(torch.ones(3)), TypeError, "flat tuple"),
        (lambda: jax_function(3), TypeError, "takes a function; got int"),
    ],
    ids=["float", "nothing", "int64", "unhashable", "dict_out", "no_function"],
)
def test_bad_calls_say_why(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_x64_is_asked_for_by_name():
    wide = jax_function(lambda ids: ids + 1, x64=True)
    ids = torch.tensor([2**53, -(2**62)])
    assert torch.equal(wide(ids), ids + 1)
    assert not jax.config.jax_enable_x64


def test_one_kind_of_output_for_all_shapes():
    moody = jax_function(lambda x: x if x.shape[0] == 1 else (x,))
    moody(torch.ones(1))
    with pytest.raises(TypeError, match="one kind"):
        moody(torch.ones(2))


def test_partials_are_functions_too():
    assert torch.equal(jax_function(functools.partial(jnp.multiply, 2.0))(torch.ones(2)), torch.full((2,), 2.0))
