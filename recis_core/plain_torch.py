"""Our code under torch's modes: its tensors are made where and as it says, and a mode that it enters it leaves again.

`with torch.device("meta")`, `torch.set_default_device`, and any other TorchFunctionMode, change what torch.zeros(1) means
inside a table as they do in a user's layer. A table lives where EmbeddingOption(device=…) says, and its offsets and
counts are of the dtypes that its code asks for. So the doors of tables and optimizers leave such modes outside.
Without a mode a door costs 0.1 µs more.

`with torch.no_grad()` is two calls of Python on each side. An interrupt between one of them and the block leaves
gradients off for the rest of the program. `without_gradients` is a try around one call of C, which none can part.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def in_plain_torch(door: Callable[P, R]) -> Callable[P, R]:
    """The function, run outside all modes of torch functions."""

    @wraps(door)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch._C._len_torch_function_stack() == 0:
            return door(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            return door(*args, **kwargs)

    return outside


def without_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """As torch.no_grad() does, also where an interrupt comes."""
    return _with_gradients(False, function)


def with_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """As torch.enable_grad() does, also where an interrupt comes."""
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
