"""Gradients of tables without an optimizer: one warning, and few gradients kept."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recis_core.table.table import Table
    from recis_core.table.ticket import Ticket

KEPT = 8  # gradients kept apart; more are summed by id into one


class Unattended:
    """For one storage: forward and backward of the first pending gradient, and whether the user was warned."""

    __slots__ = ("_backward", "_forward", "warned")

    def __init__(self) -> None:
        self._forward: Callable[[], Any] = lambda: None
        self._backward, self.warned = -1, False

    def goes_on(self, ticket: Ticket, backward: int, waiting: int) -> bool:
        """Whether gradients of two forwards, by two backwards, are pending; True only once."""
        if waiting < 2:
            self._forward, self._backward = weakref.ref(ticket), backward
            return False
        if self.warned or self._backward == backward or self._forward() is ticket:
            return False
        self.warned = True
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
