"""Decorators that keep our code independent of torch's modes, and restore the gradient mode after interrupts.

`with torch.device("meta")`, `torch.set_default_device` and any other TorchFunctionMode change the result of
torch.zeros(1), also inside a table. A table's tensors must be on its own device and of the dtypes that its code names.
So public functions of tables and optimizers run outside such modes. Without a mode a call costs 0.1 µs more.

`with torch.no_grad()` makes two Python calls on each side. An interrupt between such a call and the block would leave
gradients off for the rest of the program. `without_gradients` is a try around one C call, which no interrupt can split.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def in_plain_torch(door: Callable[P, R]) -> Callable[P, R]:
    """The function, run outside all TorchFunctionModes."""

    @wraps(door)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch._C._len_torch_function_stack() == 0:
            return door(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            return door(*args, **kwargs)

    return outside


def without_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """torch.no_grad() that is safe under interrupts."""
    return _with_gradients(False, function)


def with_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """torch.enable_grad() that is safe under interrupts."""
    return _with_gradients(True, function)


def _with_gradients(enabled: bool, function: Callable[P, R]) -> Callable[P, R]:
    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        before = torch.is_grad_enabled()
        try:
            torch._C._set_grad_enabled(enabled)
            return function(*args, **kwargs)
        finally:
            torch._C._set_grad_enabled(before)

    return inside
