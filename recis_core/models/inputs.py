"""What models take out of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

DENSE = "dense"


def taken(batch: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """{name: its column of the batch}.

    Raises:
      TypeError: the batch has no names. KeyError: it lacks one; names all that it lacks.
    """
    if not hasattr(batch, "keys"):
        raise TypeError(f"a batch must be a dict of columns by name, {list(names)}; got {type(batch).__name__}.")
    missing = [name for name in names if name not in batch]
    if missing:
        raise KeyError(f"the model takes {list(names)} of a batch, and {missing} are missing; got {list(batch)}.")
    return {name: batch[name] for name in names}


def dense_of(batch: Mapping[str, Any], width: int) -> Tensor:
    """The batch's "dense", floats [B, width].

    Raises:
      KeyError: there is none. TypeError, ValueError: another kind or shape.
    """
    dense = taken(batch, [DENSE])[DENSE]
    if not isinstance(dense, Tensor) or not dense.is_floating_point():
        kind = dense.dtype if isinstance(dense, Tensor) else type(dense).__name__
        raise TypeError(f'"dense" must be a tensor of floats [B, {width}]; got {kind}.')
    if dense.dim() != 2 or dense.shape[1] != width:
        raise ValueError(f'"dense" must be [B, {width}], the model\'s dense columns; got {list(dense.shape)}.')
    return dense
