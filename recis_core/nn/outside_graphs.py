"""Keeps lookups out of torch.compile's graphs: the code around them is compiled, lookups run eagerly."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from recis_core.backends.errors import RecisError


@cache
def outside_graphs(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compiler.disable of a function, called when a layer is made.

    As a decorator it would import torch's compiler with the package, which takes over a second.
    """
    return torch.compiler.disable(function)


def require_eager() -> None:
    """Raises RecisError while torch traces, exports or transforms: a trace would keep looked-up rows as constants."""
    if torch._C._get_tracing_state() is not None or torch.compiler.is_exporting():
        raise RecisError(
            "tables cannot be traced, scripted or exported: their rows are looked up in Python. Export the dense part, with "
            "embedding outputs as its inputs; torch.compile takes the whole model."
        )
    if torch._C._are_functorch_transforms_active():
        raise RecisError(
            "tables cannot be looked up inside vmap, torch.func.grad or other transforms of torch.func. Look rows up outside, "
            "and pass them into the function."
        )
