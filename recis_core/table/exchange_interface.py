"""What tables, layers and optimizers know of the other ranks: the interface of recis_core.exchange, one floor up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from recis_core.channel.channel import Channel

if TYPE_CHECKING:
    from recis_core.table.ticket import Ticket


class Exchange(Protocol):
    """One engine's. overlap: gradients are sent from inside backward. dense_finite: whether this rank's dense ones are."""

    channel: Channel
    overlap: bool
    dense_finite: Callable[[], bool]

    def embed(
        self, jobs: Sequence[Any], needs: Sequence[tuple[bool, ...]]
    ) -> list[tuple[list[Tensor], object, Ticket]]:
        """For each job what Table.embed returns. Collective."""

    def pushed(self) -> None:
        """A backward has pushed its gradients. Collective with overlap."""

    def agree_to_step(self) -> None:
        """A step without a gradient needs no other rank: still all make it, or none. Collective."""

    def stats(self) -> dict[str, int]:
        """Bytes sent to other ranks so far by kind, values clamped, rows sent exact."""
