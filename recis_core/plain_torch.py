"""Our own tensors are made where and as our code says, not by torch's modes.

`with torch.device("meta")`, `torch.set_default_device`, and any other TorchFunctionMode, change what torch.zeros(1) means
inside a table as they do in a user's layer. A table lives where EmbeddingOption(device=…) says, and its offsets and
counts are of the dtypes that its code asks for. So the doors of tables and optimizers leave such modes outside.
Without a mode a door costs 0.1 µs more.
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
