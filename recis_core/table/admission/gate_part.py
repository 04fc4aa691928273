"""A gate's memory as part of a saved state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from recis_core.table.admission.gate import Gate


class GatePart:
    """keeps: Table.keeps, which of a logical table's ids belong on this rank, bool [n]."""

    of_gradients = False

    def __init__(self, gate: Gate, keeps: Callable[[Tensor, int], Tensor]) -> None:
        self.gate, self.keeps = gate, keeps

    def saved(self) -> dict[str, Any]:
        return self.gate.policy.state()

    def aside(self) -> GateAside:
        return GateAside(self)


class GateAside:
    """Another hook's memory is dropped."""

    def __init__(self, part: GatePart) -> None:
        self.part, self.policy = part, part.gate.new_policy()

    def take(self, saved: Any) -> None:
        self.policy.load_state(saved)

    def merge(self, saved: Any, ordinals: dict[int, int]) -> None:
        self.policy.merge(saved, ordinals, self.part.keeps)

    def commit(self) -> None:
        self.part.gate.go_on_with(self.policy)
