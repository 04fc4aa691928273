"""Adam with decoupled decay of touched rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recis_core.compat.recis.optim.sparse_optim import SparseOptimizer
from recis_core.optim.adam import SparseAdamW as OurAdamW


class SparseAdamW(SparseOptimizer, OurAdamW):
    """As recis.optim.SparseAdamW; see SparseOptimizer.

    Raises:
      ValueError: amsgrad is True.
    """

    prefix = "sparse_adamw"

    def __init__(
        self,
        param_dict: Mapping[str, Any],
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        if amsgrad:
            raise ValueError("SparseAdamW has no amsgrad.")
        super().__init__(param_dict, lr, beta1, beta2, eps, weight_decay)
