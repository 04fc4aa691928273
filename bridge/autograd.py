"""JAX functions as differentiable torch operators."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recis_core.bridge import graph_op
from recis_core.bridge.errors import BridgeError
from recis_core.bridge.program import Program, Structure, flatten, is_inexact


def jax_function(f: Callable | None = None, *, x64: bool = False) -> Callable:
    """A jittable JAX function as a torch function with gradients; also a decorator.

        @jax_function
        def attend(query, keys, *, heads): ...            # on JAX arrays
        attend(query, keys, heads=4).sum().backward()     # on torch tensors

    f(*args, **statics) takes arrays in nested tuples, lists and dicts, and returns an array or a
    flat tuple of arrays. It is traced and compiled once for each structure of the args, their
    shapes and dtypes, and value of the statics (which must be hashable).

    Gradients go to floating and complex inputs that require them. The backward is one XLA program of
    f's VJP that computes again what it needs of the forward, as activation checkpointing does: only the
    inputs are kept. f may define its own by jax.custom_vjp. An output left unused counts as a zero
    gradient. The backward cannot be differentiated again.

    Under autocast the tensors are used in the dtypes they come in; outputs have the dtypes f gives
    them. Under torch.compile the call is one opaque operator, fullgraph=True included; sizes are
    constants to it, so each new shape is compiled anew. torch.func's transforms do not see through.

    Args:
      x64: run f with 64-bit dtypes, which f's own defaults then have too. Without it, 64-bit
        tensors are refused (unless JAX has x64 on already), for JAX would narrow them.

    Raises (from the call):
      TypeError: an argument is no tensor and no container of tensors, a static is not hashable, or
        f returns something else than arrays.
      BridgeError: a tensor cannot cross (see to_jax), or a gradient is differentiated again.
    """
    if f is None:
        return functools.partial(jax_function, x64=x64)
    if not callable(f):
        raise TypeError(f"jax_function takes a function; got {type(f).__name__}.")
    find_program = _Programs(f, x64).find

    @torch.compiler.assume_constant_result
    def find_number(structure: Structure, statics: tuple) -> int:
        return graph_op.number_of(find_program(structure, statics))

    @functools.wraps(f)
    def on_tensors(*args: Any, **statics: Any) -> Any:
        leaves: list[Any] = []
        structure = flatten(args, leaves)
        if torch.compiler.is_compiling():
            number = find_number(structure, tuple(statics.items()))
            outputs = graph_op.call(leaves, number)
            return outputs[0] if _is_single(number) else tuple(outputs)
        _check_leaves(leaves)
        program = find_program(structure, tuple(statics.items()))
        outputs = _Call.apply(program, *leaves)
        return outputs[0] if program.is_single else outputs

    return on_tensors


_is_single = torch.compiler.assume_constant_result(graph_op.is_single)


class _Programs:
    """A function's programs: one for each structure of arguments and each value of statics."""

    def __init__(self, f: Callable, x64: bool) -> None:
        self._f, self._x64 = f, x64
        self._programs: dict[tuple, Program] = {}

    def find(self, structure: Structure, statics: tuple[tuple[str, Any], ...]) -> Program:
        # The types too: 1, 1.0 and True are one key of a dict, but not one program.
        key = (structure, statics, tuple(type(value) for _, value in statics))
        try:
            program = self._programs.get(key)
        except TypeError as error:
            raise TypeError(
                f"keyword arguments are static and must be hashable; got {dict(statics)!r}. "
                "Pass tensors by position, and tuples for lists."
            ) from error
        if program is None:
            program = self._programs[key] = Program(self._f, structure, statics, self._x64)
        return program


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, program: Program, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = program.run(inputs)
        ctx.program = program
        ctx.floats = [is_inexact(x) for x in outputs]
        ctx.mark_non_differentiable(*[x for x in outputs if not is_inexact(x)])
        ctx.save_for_backward(*inputs)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        wanted = tuple(i for i, x in enumerate(inputs) if ctx.needs_input_grad[1 + i] and is_inexact(x))
        given = [grad for grad, is_float in zip(grads, ctx.floats, strict=True) if is_float]
        result: list[Tensor | None] = [None] * (1 + len(inputs))
        for i, grad in zip(wanted, _Gradient.apply(ctx.program, wanted, len(inputs), *inputs, *given), strict=True):
            result[1 + i] = grad
        return tuple(result)


class _Gradient(torch.autograd.Function):
    """The gradient as a node whose own backward raises: it cannot be differentiated again."""

    @staticmethod
    def forward(
        ctx: Any, program: Program, wanted: tuple[int, ...], count: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        return tuple(program.run_gradient(tensors[:count], tensors[count:], wanted))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        raise BridgeError(
            "a jax_function can be differentiated once. For second derivatives take the first in JAX: "
            "jax_function(jax.grad(f))."
        )


def _check_leaves(leaves: list[Any]) -> None:
    if not leaves:
        raise TypeError("a jax_function takes at least one tensor by position; got none.")
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"positional arguments are tensors, in tuples, lists and dicts; got {type(leaf).__name__}. "
                "Pass constants by keyword, arrays by torch.as_tensor."
            )
