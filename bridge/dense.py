"""A dense PyTorch tower as a JAX function, so that it can run inside one JAX program.

torch2jax (0.1.0) translates: the module's own forward runs while JAX traces, with each torch function
replaced by a JAX one. A function that torch2jax lacks raises; its known wrong translations are refused
here, and others found by comparing on an example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np
import torch
from torch import Tensor, nn

from recis_core.bridge.dlpack import is_wide, to_jax
from recis_core.bridge.errors import BridgeError
from recis_core.bridge.program import is_inexact

Params = dict[str, jax.Array]

_BATCH_STATISTICS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
# How torch2jax and the torch code under it say that they cannot.
_UNTRANSLATED = (NotImplementedError, AssertionError, AttributeError, KeyError, TypeError, RuntimeError)
_TOLERANCE = 1e-4  # relative, float32; sums in another order stay below it, a wrong formula does not


def torch_module_to_jax(
    module: nn.Module, *, example: Sequence[Tensor] | None = None
) -> tuple[Callable[..., jax.Array], Params]:
    """A module as `function(params, *inputs) -> array`, with its parameters as they are now.

        function, params = torch_module_to_jax(tower.eval(), example=(features,))
        loss, grads = jax.value_and_grad(lambda p, x: function(p, x).mean())(params, x)

    Works for towers of Linear, ReLU, LayerNorm, Sigmoid, Tanh, BatchNorm in eval, GELU("tanh"),
    Dropout in eval, with one tensor as output. Not for Embedding, GRU, SiLU, Softmax and what else
    torch2jax has no function for: this raises at the first call, or here if an example is given.

    Give an example wherever you can: the function then runs once beside the module, and values that
    differ by more than 1e-4 of the largest are an error.

    Args:
      module: left as it is. Its buffers become constants of the function.
      example: tensors as the module takes them.

    Returns:
      the function, pure and jittable; and params, copies by name, for jax.grad and donation. A
      parameter with several names (tied weights) is there once, under its first.

    Raises:
      TypeError: module is no nn.Module.
      BridgeError: torch2jax cannot translate the module, or does so wrongly.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"torch_module_to_jax takes a torch.nn.Module; got {type(module).__name__}.")
    _check_parts(module)
    params = {name: to_jax(value.detach(), copy=True) for name, value in module.named_parameters()}
    function = _make_function(module, _first_names(module), _constants(module))
    if example is not None:
        _compare(module, function, params, example)
    return function, params


def _make_function(module: nn.Module, first: dict[str, str], constants: Params) -> Callable[..., jax.Array]:
    import torch2jax

    translated = torch2jax.t2j(module)

    def function(params: Params, *inputs: jax.Array) -> jax.Array:
        if params.keys() != set(first.values()):
            raise ValueError(f"params must have the names {sorted(set(first.values()))}; got {sorted(params)}.")
        values = {name: params[canonical] for name, canonical in first.items()}
        try:
            return translated(*inputs, state_dict={**constants, **values})
        except _UNTRANSLATED as error:
            raise BridgeError(
                f"torch2jax could not run {type(module).__name__} on {[x.shape for x in inputs]}: "
                f"{type(error).__name__}: {error} Keep this part in torch, or write it in JAX (recis_core.bridge.jax_function)."
            ) from error

    return function


def _first_names(module: nn.Module) -> dict[str, str]:
    """Each name of each parameter → the name that parameter came by first."""
    first: dict[int, str] = {}
    named = module.named_parameters(remove_duplicate=False)
    return {name: first.setdefault(id(value), name) for name, value in named}


def _constants(module: nn.Module) -> Params:
    return {name: _constant(name, buffer) for name, buffer in module.named_buffers(remove_duplicate=False)}


def _constant(name: str, buffer: Tensor) -> jax.Array:
    if is_wide(buffer.dtype) and not is_inexact(buffer) and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        # BatchNorm's count of batches is one; eval never reads it.
        bounds = torch.iinfo(torch.int32)
        if buffer.numel() and not bounds.min <= int(buffer.min()) <= int(buffer.max()) <= bounds.max:
            raise BridgeError(f"buffer {name} holds {buffer.dtype} beyond int32. Convert under jax.enable_x64(True).")
        buffer = buffer.to(torch.int32)
    return to_jax(buffer.detach(), copy=True)


def _check_parts(module: nn.Module) -> None:
    persistent = module.state_dict(keep_vars=True).keys()
    missing = [name for name, _ in module.named_buffers(remove_duplicate=False) if name not in persistent]
    if missing:
        raise BridgeError(f"torch2jax needs every buffer in the state dict; {missing} are not. Make them persistent.")
    for name, part in module.named_modules():
        reason = _why_not(part)
        if reason is not None:
            raise BridgeError(f"torch2jax cannot run {name or 'the module'} ({type(part).__name__}) truly: {reason}")


def _why_not(part: nn.Module) -> str | None:
    if isinstance(part, _BATCH_STATISTICS) and part.training:
        return "its running statistics would not be updated. Call module.eval() first."
    if isinstance(part, _DROPOUT) and part.training and part.p > 0:
        return "its mask would need a random key. Call module.eval() first."
    if isinstance(part, nn.GELU) and part.approximate == "none":
        return "it computes the tanh approximation, 2e-4 off. Use nn.GELU(approximate='tanh')."
    return None


def _compare(module: nn.Module, function: Callable, params: Params, example: Sequence[Tensor]) -> None:
    with torch.no_grad():
        output = module(*example)
    if not isinstance(output, Tensor):
        raise BridgeError(f"torch2jax takes modules with one tensor as output; got {type(output).__name__}.")
    expected = output.float().cpu().numpy()
    got = np.asarray(jax.jit(function)(params, *[to_jax(x.detach(), copy=True) for x in example]), dtype=np.float32)
    if got.shape != expected.shape:
        raise BridgeError(f"torch2jax gives shape {got.shape} where torch gives {expected.shape}. Keep it in torch.")
    error = float(np.max(np.abs(got - expected), initial=0.0))
    # Written so that a NaN on either side is an error too.
    if not error <= _TOLERANCE * max(1.0, float(np.max(np.abs(expected), initial=0.0))):
        raise BridgeError(f"torch2jax differs from torch by {error:.3g} on the example. Keep this part in torch.")
