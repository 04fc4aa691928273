"""Adam on touched rows.

    α = −lr·√(1−β2ᵗ)/(1−β1ᵗ);  w ← D·w;  m ← β1·m + (1−β1)·g;  v ← β2·v + (1−β2)·g²;  w ← w + α·m/(√v + eps)

Kingma & Ba 2015, arXiv:1412.6980, in the form at the end of section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from recis_core.backends import SlotSpec
from recis_core.backends.rule_numbers import adam_numbers
from recis_core.nn.hash_table import HashTable
from recis_core.optim.hyperparameters import as_float, as_floats, both_betas
from recis_core.optim.sparse_optimizer import Group, SparseOptimizer


class SparseAdam(SparseOptimizer):
    """Adam without decay: D = 1. `weight_decay` is accepted, as in RecIS, and has no effect.

    betas: torch's name for RecIS's (beta1, beta2). Groups store `betas`; all three names can be read and set.
    """

    rule_kind = "adam"
    torch_only: ClassVar[Mapping[str, Any]] = {
        **SparseOptimizer.torch_only, "amsgrad": False, "decoupled_weight_decay": False
    }  # fmt: skip

    def __init__(
        self,
        param_dict: Mapping[str, HashTable],
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        betas: tuple[float, float] | None = None,
        **torch_only: Any,
    ) -> None:
        pair = both_betas(betas, beta1, beta2, (0.9, 0.999))
        super().__init__(param_dict, {"lr": lr, "betas": pair, "eps": eps, "weight_decay": weight_decay}, **torch_only)

    def slot_specs(self, dim: int) -> tuple[SlotSpec, ...]:
        return SlotSpec("m", dim), SlotSpec("v", dim)

    def decay(self, group: Group) -> float:
        """D: the factor of weights before the step."""
        return 1.0

    def numbers(self, group: Group, t: int) -> tuple[float, ...]:
        lr, eps, beta1, beta2 = as_floats(group["lr"], group["eps"], *group["betas"])
        return adam_numbers(lr, beta1, beta2, eps, self.decay(group), t, math.sqrt)


class SparseAdamW(SparseAdam):
    """Adam with decoupled decay of touched rows: D = 1 − lr·wd. Loshchilov & Hutter 2019, arXiv:1711.05101."""

    def decay(self, group: Group) -> float:
        return 1 - as_float(group["lr"]) * as_float(group["weight_decay"])


class SparseAdamWTF(SparseAdam):
    """Adam with TensorFlow-style decay of touched rows: D = 1 − wd."""

    def decay(self, group: Group) -> float:
        return 1 - as_float(group["weight_decay"])
