"""The verbs in which a table of one rank and a rank's share of a table differ: those that move gradients or rows.

Sizes: n rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from recis_core.backends import Clock, UpdateRule

if TYPE_CHECKING:
    from recis_core.table.ticket import Ticket
    from recis_core.table.unapplied import Measure


class Verbs(Protocol):
    """NamedTable implements these for this rank's rows, SharedVerbs for all ranks' rows."""

    def count(self) -> int: ...

    def lookup(self, ids: Tensor, unknown: str) -> tuple[Tensor, Tensor]: ...

    def erase(self, ids: Tensor) -> int: ...

    def items(self, most: int) -> Iterator[tuple[Tensor, Tensor]]: ...


class TableInterface(ABC):
    """A gradient is pushed by backward, combined by `sync`, applied by `update`, and dropped by `update` or `discard`."""

    @property
    @abstractmethod
    def clock(self) -> Clock:
        """The clock of a call made now: the step, and the step from which used rows are pinned."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """A factor of the synced gradient, beside the optimizer's."""

    @property
    @abstractmethod
    def held(self) -> Any:
        """Pending gradients; set to restore them if a push to several tables fails."""

    @held.setter
    @abstractmethod
    def held(self, held: Any) -> None: ...

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Number of backwards whose gradients are pending."""

    @property
    @abstractmethod
    def has_gradient(self) -> bool:
        """Whether any rank may have a gradient; equal on all ranks."""

    @abstractmethod
    def verbs(self, ordinal: int) -> Verbs:
        """A logical table's verbs beside training, over the rows of all ranks."""

    @abstractmethod
    def embed_grad(self, saved: Any, grads: list[Tensor | None]) -> tuple[Any, list[Tensor | None]]:
        """Backward of a forward: the gradient to push, and gradients of the requests' weights, where needed."""

    @abstractmethod
    def push(self, gradient: Any, ticket: Ticket) -> None:
        """Hold a backward's gradient until the step."""

    @abstractmethod
    def accept_gradient(self, ids: Tensor, ordinal: int, rows: Tensor, values: Tensor) -> None:
        """Add a gradient of rows of this rank, as a backward would."""

    @abstractmethod
    def sync(self) -> None:
        """Combine gradients, and bring each to the rank of its row. Idempotent."""

    @abstractmethod
    def flags(self) -> tuple[bool, bool]:
        """(whether there is a gradient, whether it is finite)"""

    @abstractmethod
    def measure(self, kind: str = "norm") -> Measure:
        """Σ values² and finiteness of the synced gradient over all ranks' rows; zero and finite without one.

        kind: "norm" in a step, "clip" in clipping; ranks that share the table must be in the same one.
        """

    @abstractmethod
    def update(self, rule: UpdateRule, hyper: np.ndarray, factor: float, t: tuple[int, ...]) -> None:
        """Apply the synced gradient, if any, and drop it."""

    @abstractmethod
    def discard(self) -> None:
        """Drop pending gradients; they no longer pin rows."""

    @abstractmethod
    def clear(self, ordinals: Iterable[int]) -> None:
        """Erase all rows of these logical tables, their pending gradients and waiting slots. On all ranks, or on none."""

    @abstractmethod
    def agree_to_load(self, ordinals: Iterable[int], *, refuses: bool) -> list[int]:
        """Ranks that refuse their part of a state; if there are any, no rank loads its part."""
