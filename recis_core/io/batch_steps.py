"""Functions and filters over whole batches, in the order they were added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from recis_core.io.selection import select_rows

Step = tuple[str, Callable[[Any], Any]]  # ("map" or "filter", function)


def stepped(batch: Any, steps: Sequence[Step]) -> Any:
    """The batch after all steps; None if no row is left."""
    for kind, function in steps:
        if kind == "map":
            batch = function(batch)
            continue
        kept = function(batch)
        if isinstance(kept, Tensor) and kept.dim() > 0:
            if not kept.any():
                return None
            batch = select_rows(batch, kept)
        elif not kept:
            return None
    return batch
