"""A `Program` as an opaque operator in torch.compile's graphs: fullgraph, any backend.

A graph holds tensors and constants alone, so it names a program by a number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recis_core.bridge.program import Program, is_inexact

_programs: list[Program] = []


def number_of(program: Program) -> int:
    """The program's number. Both live as long as the process, for a compiled graph may."""
    if program not in _programs:
        _programs.append(program)
    return _programs.index(program)


def is_single(number: int) -> bool:
    """Whether that program returns an array rather than a tuple. Known once the operator was traced."""
    return bool(_programs[number].is_single)


@torch.library.custom_op("torch_jax_bridge::call", mutates_args=())
def call(inputs: list[Tensor], number: int) -> list[Tensor]:
    """The program's outputs."""
    return _programs[number].run(inputs)


@call.register_fake
def _(inputs: list[Tensor], number: int) -> list[Tensor]:
    return _programs[number].describe(inputs)


@torch.library.custom_op("torch_jax_bridge::call_gradient", mutates_args=())
def call_gradient(inputs: list[Tensor], grads: list[Tensor], wanted: list[int], number: int) -> list[Tensor]:
    """Gradients to inputs[i] for i in wanted."""
    return _programs[number].run_gradient(inputs, grads, tuple(wanted))


@call_gradient.register_fake
def _(inputs: list[Tensor], grads: list[Tensor], wanted: list[int], number: int) -> list[Tensor]:
    return [torch.empty_like(inputs[i], memory_format=torch.contiguous_format) for i in wanted]


def _setup_context(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    tensors, ctx.number = inputs
    ctx.floats = [is_inexact(x) for x in output]
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grads: list[Tensor]) -> tuple[list[Tensor | None], None]:
    inputs = list(ctx.saved_tensors)
    wanted = [i for i, x in enumerate(inputs) if ctx.needs_input_grad[0][i] and is_inexact(x)]
    given = [grad for grad, is_float in zip(grads, ctx.floats, strict=True) if is_float]
    result: list[Tensor | None] = [None] * len(inputs)
    for i, grad in zip(wanted, call_gradient(inputs, given, wanted, ctx.number), strict=True):
        result[i] = grad
    return result, None


call.register_autograd(_backward, setup_context=_setup_context)
