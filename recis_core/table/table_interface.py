"""In what a physical table of one rank and a rank's share of one differ: the way of gradients, and who is asked for rows.

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
    """NamedTable has these of rows on this rank, SharedVerbs of all ranks' rows."""

    def count(self) -> int: ...

    def lookup(self, ids: Tensor, unknown: str) -> tuple[Tensor, Tensor]: ...

    def erase(self, ids: Tensor) -> int: ...

    def items(self, most: int) -> Iterator[tuple[Tensor, Tensor]]: ...


class TableInterface(ABC):
    """A gradient is pushed by backward, combined by `sync`, and consumed by `update` or `discard`."""

    @property
    @abstractmethod
    def clock(self) -> Clock:
        """Of a call that comes now: its step, and since when rows are pinned."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """Multiplies the synced gradient, besides what the optimizer says."""

    @property
    @abstractmethod
    def held(self) -> Any:
        """What backwards have left, to put back where several tables take theirs together or not at all."""

    @held.setter
    @abstractmethod
    def held(self, held: Any) -> None: ...

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many backwards' gradients are held."""

    @property
    @abstractmethod
    def has_gradient(self) -> bool:
        """Whether any rank may have one; equal on all ranks."""

    @abstractmethod
    def verbs(self, ordinal: int) -> Verbs:
        """What is asked of a logical table's rows beside training, wherever they are."""

    @abstractmethod
    def embed_grad(self, saved: Any, grads: list[Tensor | None]) -> tuple[Any, list[Tensor | None]]:
        """Backward of a forward: the gradient to push, and one for each request's weights, as asked."""

    @abstractmethod
    def push(self, gradient: Any, ticket: Ticket) -> None:
        """Hold a backward's gradient until the step."""

    @abstractmethod
    def accept_gradient(self, ids: Tensor, ordinal: int, rows: Tensor, values: Tensor) -> None:
        """As if a backward had left it for these rows, which are here."""

    @abstractmethod
    def sync(self) -> None:
        """Every gradient to the rows that it is of, combined. Idempotent."""

    @abstractmethod
    def flags(self) -> tuple[bool, bool]:
        """(whether there is a gradient, whether it is finite)"""

    @abstractmethod
    def measure(self, kind: str = "norm") -> Measure:
        """Σ values² and finiteness of the synced gradient, of all ranks' rows; zero and finite where there is none.

        kind: "norm" for a step, "clip" for a norm: what ranks that share the table must agree on.
        """

    @abstractmethod
    def update(self, rule: UpdateRule, hyper: np.ndarray, factor: float, t: tuple[int, ...]) -> None:
        """Apply the synced gradient, if there is one, and consume it."""

    @abstractmethod
    def discard(self) -> None:
        """Drop pending gradients; rows touched before now are no longer pinned by them."""

    @abstractmethod
    def clear(self, ordinals: Iterable[int]) -> None:
        """Forget all rows of these logical tables, with all that waits for them. On all ranks, or on none."""

    @abstractmethod
    def agree_to_load(self, ordinals: Iterable[int], *, refuses: bool) -> list[int]:
        """Ranks whose part of a state is refused: then none takes its own."""
