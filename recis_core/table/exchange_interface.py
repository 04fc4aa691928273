"""The interface of recis_core.exchange that tables, layers and optimizers use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from recis_core.channel.channel import Channel

if TYPE_CHECKING:
    from recis_core.table.table import Table
    from recis_core.table.ticket import Ticket
    from recis_core.table.unapplied import Carried


class Exchange(Protocol):
    """One engine's exchange with other ranks.

    overlap: gradients are sent during backward. dense_finite: whether this rank's dense gradients are finite.
    """

    channel: Channel
    overlap: bool
    dense_finite: Callable[[], bool]

    def embed(
        self, jobs: Sequence[Any], needs: Sequence[tuple[bool, ...]]
    ) -> list[tuple[list[Tensor], object, Ticket]]:
        """PhysicalTable.embed of each job, over all ranks. Collective."""

    def pushed(self) -> None:
        """A backward has pushed its gradients. Collective with overlap."""

    def agree_to_step(self) -> None:
        """All ranks make the step, or none, though a step without a gradient needs no other rank. Collective."""

    def unsent(self) -> dict[Table, Carried]:
        """Of tables whose ranks keep back parts of gradients: these, and what is carried, at the rows' owners. Collective."""

    def stats(self) -> dict[str, int]:
        """Counts so far: bytes sent to other ranks by kind, values clamped, rows sent exact."""
