"""Stochastic gradient descent on touched rows.

g ← g + wd·w;  with momentum: v ← momentum·v + g, g ← v;  w ← w − lr·g
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from recis_core.backends import SlotSpec
from recis_core.nn.hash_table import HashTable
from recis_core.optim.hyperparameters import as_floats
from recis_core.optim.sparse_optimizer import Group, SparseOptimizer


class SparseSGD(SparseOptimizer):
    """SGD. Momentum is lazy: it changes only when its row has a gradient.

    Rows get a momentum slot once a group has momentum above 0: at the start, or when a scheduler sets it.
    """

    rule_kind = "sgd"
    torch_only: ClassVar[Mapping[str, Any]] = {**SparseOptimizer.torch_only, "dampening": 0, "nesterov": False}

    def __init__(
        self,
        param_dict: Mapping[str, HashTable],
        lr: float = 1e-2,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        **torch_only: Any,
    ) -> None:
        self._has_momentum = momentum != 0
        super().__init__(param_dict, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}, **torch_only)

    def slot_specs(self, dim: int) -> tuple[SlotSpec, ...]:
        return (SlotSpec("momentum", dim),) if self._has_momentum else ()

    def house_momentum(self) -> None:
        if self._has_momentum or not any(group["momentum"] for group in self.param_groups):
            return
        self._has_momentum = True
        try:
            for table in self._physical():
                table.attach(self, self.slot_specs(table.spec.dim))
        except BaseException:
            self._has_momentum = False
            raise

    def numbers(self, group: Group, t: int) -> tuple[float, ...]:
        return as_floats(group["lr"], group["weight_decay"], group["momentum"])
