"""Codecs chosen by their error, which each rank measures; sums over ranks are taken once a step.

Sizes: U rows, D dim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recis_core.options.precision import Auto, Codec, Direction


class Chooser:
    """One direction of a table: its codec at a step, and the error of rows sent since the last step."""

    def __init__(self, direction: Direction) -> None:
        self.direction, self.adaptive = direction, direction.adaptive()
        self.lost = self.whole = 0.0

    def at(self, step: int) -> Codec:
        return self.direction.at(step, self.adaptive)

    def measures(self, step: int) -> bool:
        """Whether the codec of this step is chosen by error."""
        return self.adaptive is not None and isinstance(self.direction.choice(step), Auto)

    def measure(self, whole: Tensor, left: Tensor) -> None:
        """Add rows float32 [U, D] that were sent, and what their codes lose of them."""
        self.whole += float(whole.double().square().sum())
        self.lost += float(left.double().square().sum())

    def take(self) -> tuple[float, float]:
        """(Σ lost², Σ whole²) of this rank since the last time."""
        taken, self.lost, self.whole = (self.lost, self.whole), 0.0, 0.0
        return taken

    def state(self) -> dict[str, object]:
        """The state of the choice, as plain numbers; empty where no codec is chosen by error."""
        return {} if self.adaptive is None else self.adaptive.state_dict()

    def load_state(self, state: dict[str, object]) -> None:
        """Take what `state` gave. Raises ValueError if its candidates are others."""
        if self.adaptive is not None and state:
            self.adaptive.load_state_dict(state)

    def observe(self, step: int, lost: Sequence[float], whole: Sequence[float]) -> None:
        """Take all ranks' sums, in the order of ranks: each chooses the same. Sums with NaN or inf do not count."""
        total = sum(whole)
        if self.adaptive is not None and self.measures(step) and 0 < total < math.inf:
            self.adaptive.observe(math.sqrt(sum(lost) / total))


def with_zeros(residual: Tensor | None, like: Tensor) -> Tensor:
    """The residual, or zeros where none is kept."""
    return torch.zeros_like(like) if residual is None else residual
