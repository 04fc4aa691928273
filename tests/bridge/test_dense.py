"""PyTorch towers as JAX functions, beside eager torch: values and every gradient."""

import jax
import numpy as np
import pytest
import torch
from torch import nn

from recis_core.bridge import BridgeError, jax_function, to_jax, to_torch, torch_module_to_jax


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 4)
        self.down.weight = self.up.weight

    def forward(self, x):
        return self.down(torch.sigmoid(self.up(x)))


class Scaled(nn.Module):
    def __init__(self, persistent):
        super().__init__()
        self.register_buffer("scale", torch.full((4,), 2.0), persistent=persistent)

    def forward(self, x):
        return x * self.scale


class Two(nn.Module):
    def forward(self, x):
        return x, x


def batch_norm():
    module = nn.BatchNorm1d(4)
    module(torch.randn(20, 4) * 3 + 1)
    return module.eval()


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.LayerNorm(8), nn.Dropout(0.2), nn.Linear(8, 1)).eval()


TOWERS = {
    "linear": lambda: nn.Linear(4, 3),
    "relu": nn.ReLU,
    "layer_norm": lambda: nn.LayerNorm(4),
    "batch_norm_eval": batch_norm,
    "mlp": mlp,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "tied_weights": Tied,
    "buffer": lambda: Scaled(persistent=True),
}


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_is_eager_torch(name):
    torch.manual_seed(0)
    module, x = TOWERS[name](), torch.randn(5, 4, requires_grad=True)
    function, params = torch_module_to_jax(module, example=(x,))
    expected = module(x)
    (expected**2).sum().backward()

    got = jax.jit(function)(params, to_jax(x.detach()))
    grads, grad_x = jax.jit(jax.grad(lambda p, x: (function(p, x) ** 2).sum(), argnums=(0, 1)))(
        params, to_jax(x.detach())
    )
    torch.testing.assert_close(to_torch(got), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(to_torch(grad_x), x.grad, rtol=1e-4, atol=1e-4)
    assert grads.keys() == dict(module.named_parameters()).keys()
    for key, parameter in module.named_parameters():
        torch.testing.assert_close(to_torch(grads[key]), parameter.grad, rtol=1e-4, atol=1e-4)


def test_params_are_copies():
    module = nn.Linear(4, 3)
    _, params = torch_module_to_jax(module)
    before = np.array(params["weight"])
    with torch.no_grad():
        module.weight.zero_()
    assert np.array_equal(np.asarray(params["weight"]), before)


def test_a_tower_inside_a_jax_function_trains_in_torch():
    torch.manual_seed(0)
    module, x = nn.Linear(4, 3), torch.randn(5, 4)
    function, _ = torch_module_to_jax(module)
    weights = {name: value.detach().clone().requires_grad_() for name, value in module.named_parameters()}
    jax_function(function)(weights, x).square().sum().backward()
    module(x).square().sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(weights[name].grad, parameter.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (nn.BatchNorm1d(4), r"running statistics.*eval\(\)"),
        (nn.Sequential(nn.Dropout(0.5)), r"cannot run 0 \(Dropout\).*eval\(\)"),
        (nn.GELU(), "tanh approximation"),
        (nn.SiLU(), "could not run SiLU.*Keep this part in torch"),
        (nn.Softmax(-1), "could not run Softmax"),
        (nn.GRU(4, 4), "one tensor as output; got tuple"),
        (Scaled(persistent=False), r"\['scale'\] are not"),
        (Two(), "got tuple"),
    ],
    ids=["batch_norm_train", "dropout_train", "gelu", "silu", "softmax", "gru", "buffer", "two_outputs"],
)
def test_what_torch2jax_cannot_do_says_so(module, match):
    with pytest.raises(BridgeError, match=match):
        torch_module_to_jax(module, example=(torch.randn(5, 4),))


def test_an_embedding_says_so_at_the_first_call():
    function, params = torch_module_to_jax(nn.Embedding(5, 4))
    with pytest.raises(BridgeError, match="could not run Embedding"):
        function(params, to_jax(torch.arange(4, dtype=torch.int32)))


def test_a_wrong_translation_is_found_by_the_example():
    class Gelu(nn.Module):
        def forward(self, x):
            return nn.functional.gelu(x)  # torch2jax computes the tanh approximation without a word

    torch_module_to_jax(Gelu())
    with pytest.raises(BridgeError, match="differs from torch"):
        torch_module_to_jax(Gelu(), example=(torch.linspace(-4, 4, 100),))


def test_bad_arguments_say_why():
    with pytest.raises(TypeError, match=r"nn\.Module; got int"):
        torch_module_to_jax(3)
    function, params = torch_module_to_jax(nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"names \['bias', 'weight'\]; got \['weight'\]"):
        function({"weight": params["weight"]}, to_jax(torch.ones(2, 4)))
