"""Adagrad on touched rows, with one accumulator for each value or each row.

    g ← g + wd·w;  s ← s + g² (row-wise: mean_d g²);  w ← w − lr/(1 + (t−1)·lr_decay) · g/(√s + eps)

Duchi et al. 2011; as torch.optim.Adagrad.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recis_core.backends import SlotSpec
from recis_core.backends.rule_numbers import adagrad_numbers
from recis_core.nn.hash_table import HashTable
from recis_core.optim.hyperparameters import as_float, as_floats, check_numbers
from recis_core.optim.sparse_optimizer import Group, SparseOptimizer


class SparseAdagrad(SparseOptimizer):
    """Adagrad with one accumulator for each value."""

    rule_kind = "adagrad"

    def __init__(
        self,
        param_dict: Mapping[str, HashTable],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **torch_only: Any,
    ) -> None:
        check_numbers({"initial_accumulator_value": initial_accumulator_value})
        self._initial = as_float(initial_accumulator_value)
        numbers = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        super().__init__(param_dict, numbers, **torch_only)

    def slot_specs(self, dim: int) -> tuple[SlotSpec, ...]:
        return (SlotSpec("sum", self.width(dim), self._initial),)

    def width(self, dim: int) -> int:
        return dim

    def numbers(self, group: Group, t: int) -> tuple[float, ...]:
        lr, lr_decay, weight_decay, eps = as_floats(*(group[n] for n in ("lr", "lr_decay", "weight_decay", "eps")))
        return adagrad_numbers(lr, lr_decay, weight_decay, eps, t)


class SparseRowWiseAdagrad(SparseAdagrad):
    """Adagrad with one accumulator for each row: its state is one float, where SparseAdagrad keeps dim."""

    rule_kind = "rowwise_adagrad"

    def width(self, dim: int) -> int:
        return 1
