"""One JAX function at one argument structure, called with a flat list of torch tensors.

JAX compiles it once for each set of shapes and dtypes, and its gradient once for each set of
inputs that need one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch import Tensor

from recis_core.bridge.dlpack import is_dense, to_jax, to_torch
from recis_core.bridge.lifetime import hold

LEAF = "*"
Structure = Any  # LEAF, None, or (container type, keys of a dict, child structures); hashable


def flatten(tree: Any, leaves: list[Any]) -> Structure:
    """Append the leaves of nested tuples, lists and dicts; return what rebuilds them. None is no leaf."""
    if tree is None:
        return None
    if isinstance(tree, tuple | list):
        return (type(tree), (), tuple([flatten(child, leaves) for child in tree]))
    if isinstance(tree, dict):
        return (dict, tuple(tree), tuple([flatten(child, leaves) for child in tree.values()]))
    leaves.append(tree)
    return LEAF


def rebuild(structure: Structure, leaves: Iterator[Any]) -> Any:
    """The tree that `flatten` took apart, from an iterator over leaves in its order."""
    if structure is None:
        return None
    if structure == LEAF:
        return next(leaves)
    kind, keys, children = structure
    values = [rebuild(child, leaves) for child in children]
    if kind is dict:
        return dict(zip(keys, values, strict=True))
    return kind(*values) if hasattr(kind, "_fields") else kind(values)


class Program:
    """f(*args, **statics) with args of one structure, on torch tensors."""

    def __init__(self, f: Callable, structure: Structure, statics: tuple[tuple[str, Any], ...], x64: bool) -> None:
        self._f, self._structure, self._statics, self._x64 = f, structure, dict(statics), x64
        self.is_single: bool | None = None  # whether f returns an array, no tuple; known once traced
        self._forward = jax.jit(self._outputs)
        # The structure is fixed, so this holds a handful: one for each set of inputs that want a gradient.
        self._gradient = lru_cache(maxsize=None)(self._make_gradient)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """f's outputs."""
        with self._precision():
            return _run(self._forward, inputs)

    def run_gradient(self, inputs: Sequence[Tensor], grads: Sequence[Tensor], wanted: tuple[int, ...]) -> list[Tensor]:
        """Gradients to inputs[i] for i in wanted, from one gradient for each differentiable output."""
        with self._precision():
            return _run(self._gradient(len(inputs), wanted), [*inputs, *grads])

    def describe(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Empty tensors like `run`'s outputs, without running."""
        with self._precision():
            shapes = [jax.ShapeDtypeStruct(tuple(int(n) for n in x.shape), _jax_dtype(x.dtype)) for x in inputs]
            outputs = jax.eval_shape(self._outputs, *shapes)
        return [torch.empty(x.shape, dtype=_torch_dtype(x.dtype), device=inputs[0].device) for x in outputs]

    def _precision(self) -> contextlib.AbstractContextManager:
        return jax.enable_x64(True) if self._x64 else contextlib.nullcontext()

    def _outputs(self, *leaves: jax.Array) -> tuple[jax.Array, ...]:
        args = rebuild(self._structure, iter(leaves))
        result = self._f(*args, **self._statics)
        is_single = not isinstance(result, tuple)
        if self.is_single not in (None, is_single):
            raise TypeError("the function returns an array for some shapes and a tuple for others. Return one kind.")
        self.is_single = is_single
        outputs = (result,) if is_single else result
        for output in outputs:
            if not isinstance(output, jax.Array):
                raise TypeError(
                    "jax_function takes a function that returns an array or a tuple of arrays; "
                    f"got {type(output).__name__}. Return its arrays as one flat tuple."
                )
        return outputs

    def _make_gradient(self, count: int, wanted: tuple[int, ...]) -> Callable:
        def gradient(*arrays: jax.Array) -> tuple[jax.Array, ...]:
            inputs, grads = list(arrays[:count]), arrays[count:]

            def differentiable(*chosen: jax.Array) -> tuple[jax.Array, ...]:
                for i, value in zip(wanted, chosen, strict=True):
                    inputs[i] = value
                return tuple(x for x in self._outputs(*inputs) if jnp.issubdtype(x.dtype, jnp.inexact))

            _, pull = jax.vjp(differentiable, *[inputs[i] for i in wanted])
            # torch's gradient of a complex number is the conjugate of JAX's; conj leaves reals alone.
            return tuple(jnp.conj(x) for x in pull(tuple(jnp.conj(g) for g in grads)))

        return jax.jit(gradient)


def _run(program: Callable, inputs: Sequence[Tensor]) -> list[Tensor]:
    sent = [_shareable(x.detach()) for x in inputs]
    arrays = program(*[to_jax(x) for x in sent])
    hold(sent, until=arrays)
    return _unshared([to_torch(x) for x in arrays], sent)


def _shareable(tensor: Tensor) -> Tensor:
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    return tensor if is_dense(tensor) else tensor.contiguous()


def _unshared(outputs: list[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Copies outputs that share memory: a jit may return an input, or one output twice, but torch outputs must not alias."""
    seen = {x.data_ptr() for x in inputs}
    for i, output in enumerate(outputs):
        if output.data_ptr() in seen and output.numel():
            outputs[i] = output.clone()
        seen.add(output.data_ptr())
    return outputs


def is_inexact(tensor: Tensor) -> bool:
    """Whether a gradient can go to the tensor."""
    return tensor.is_floating_point() or tensor.is_complex()


def _jax_dtype(dtype: torch.dtype) -> jnp.dtype:
    return jnp.dtype(str(dtype).removeprefix("torch."))


def _torch_dtype(dtype: jnp.dtype) -> torch.dtype:
    return getattr(torch, str(dtype))
