"""Gradients that no optimizer will take: told of once, and kept as few."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recis_core.table.table import Table
    from recis_core.table.ticket import Ticket

KEPT = 8  # gradients of backwards that wait apart; then they are summed by id into one


class Unattended:
    """Of one storage: the forward and the backward whose gradient waits first, and whether it was told of."""

    __slots__ = ("_backward", "_forward", "told")

    def __init__(self) -> None:
        self._forward: Callable[[], Any] = lambda: None
        self._backward, self.told = -1, False

    def goes_on(self, ticket: Ticket, backward: int, waiting: int) -> bool:
        """Whether a gradient of another forward, by another backward, waits already; yes once."""
        if waiting < 2:
            self._forward, self._backward = weakref.ref(ticket), backward
            return False
        if self.told or self._backward == backward or self._forward() is ticket:
            return False
        self.told = True
        return True


def tell(tables: Iterable[Table]) -> None:
    names = [name for table in tables for name in table.names]
    if names:
        warnings.warn(
            f"gradients of tables {', '.join(names)} wait for an optimizer, and they have none: their rows do not train. An "
            "optimizer over model.parameters() does not see tables; give theirs to a sparse one, "
            "recis_core.optim.SparseAdam(filter_out_sparse_param(model)), and recis_core.optim.join(dense, sparse) steps "
            "both. Tables that are not to train: engine.requires_grad_(False). Read by hand, by HashTable.grad(), gradients "
            "go on until clear_grad().",
            stacklevel=2,
        )
