"""Codecs chosen by the error they make: what each rank measured, added up over ranks once a step.

Sizes: U rows, D dim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recis_core.options.precision import Auto, Codec, Direction


class Chooser:
    """One direction of a table: its codec at a step, and the error of what was sent since the last one."""

    def __init__(self, direction: Direction) -> None:
        self.direction, self.adaptive = direction, direction.adaptive()
        self.lost = self.whole = 0.0

    def at(self, step: int) -> Codec:
        return self.direction.at(step, self.adaptive)

    def measures(self, step: int) -> bool:
        """Whether the codec of this step is chosen by error."""
        return self.adaptive is not None and isinstance(self.direction.choice(step), Auto)

    def measure(self, whole: Tensor, left: Tensor) -> None:
        """Rows float32 [U, D] that were sent, and what their codes do not say."""
        self.whole += float(whole.double().square().sum())
        self.lost += float(left.double().square().sum())

    def take(self) -> tuple[float, float]:
        """(Σ lost², Σ whole²) of this rank since the last time."""
        taken, self.lost, self.whole = (self.lost, self.whole), 0.0, 0.0
        return taken

    def state(self) -> dict[str, object]:
        """What the choice rests on, as plain numbers; empty where nothing is chosen by error."""
        return {} if self.adaptive is None else self.adaptive.state_dict()

    def load_state(self, state: dict[str, object]) -> None:
        """What `state` gave. Raises ValueError where it is of other candidates."""
        if self.adaptive is not None and state:
            self.adaptive.load_state_dict(state)

    def observe(self, step: int, lost: Sequence[float], whole: Sequence[float]) -> None:
        """Sums of all ranks, in the order of ranks: the same choice on each. Rows with NaN or inf tell nothing."""
        total = sum(whole)
        if self.adaptive is not None and self.measures(step) and 0 < total < math.inf:
            self.adaptive.observe(math.sqrt(sum(lost) / total))


def with_zeros(residual: Tensor | None, like: Tensor) -> Tensor:
    """A residual to measure by, where none is kept."""
    return torch.zeros_like(like) if residual is None else residual
