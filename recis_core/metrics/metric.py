"""What every metric of a stream has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from torch import Tensor

Gather = Callable[[Tensor], Iterable[Tensor]]
"""From this rank's tensor [n, …] to all ranks' tensors, in their order; n may differ. exchange.gathered of a channel is one."""


class Measure(Protocol):
    """What a Trainer needs of a metric: each Metric is one, and each of torchmetrics'.

    With `reduce(gather)`, as a Metric has, it is merged over ranks by that; else compute() is the value over all ranks.
    """

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Add a batch."""

    def compute(self) -> Any:
        """A number, or numbers by name."""

    def reset(self) -> Any:
        """Drop all rows."""


class Metric(Measure, Protocol):
    """A number that describes all predictions since the last reset, which come in batches.

    `metric(predictions, labels)` adds a batch as well, and returns the value of that batch alone.

    grouped: whether `update` takes groups, as GAUC's; weighted: whether it takes weights of rows.
    """

    grouped: bool
    weighted: bool

    def update(self, predictions: Any, labels: Any, groups: Any = None, weights: Any = None) -> None:
        """Add a batch of N rows; a call that raises adds none.

        Args:
          predictions: [N] real numbers. labels: [N]. Tensors or arrays; more dimensions are flattened.
          groups: [N] integers, of grouped metrics alone, which need them: the user, query or session of each row.
          weights: [N] numbers of 0 or more, of weighted metrics alone; None: 1 each.
        """

    def compute(self) -> float:
        """The value; NaN, with a logged warning that says why, where it is undefined."""

    def reset(self) -> None:
        """Drop all rows."""

    def reduce(self, gather: Gather | None = None) -> None:
        """Merge the rows of all ranks, on each rank. Collective; all ranks hold all rows afterwards, so call it once, before
        `compute`.

        gather: None is torch.distributed's default group, or this process alone without a group.
        """

    def state_dict(self) -> dict[str, Any]:
        """All that the metric holds, as tensors and plain values; a copy."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold what another metric of the same kind and arguments held. A call that raises changes nothing."""
