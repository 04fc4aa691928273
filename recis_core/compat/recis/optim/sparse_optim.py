"""RecIS's meanings of step, zero_grad, accumulation, t and state_dict, over our sparse optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from recis_core.compat.recis.nn.modules.hashtable import split_sparse_dense_state_dict
from recis_core.compat.recis.nn.modules.hashtable_impl import HashtableImpl, tables_of
from recis_core.optim.adam import SparseAdam as OurAdam
from recis_core.table.table import Table

__all__ = ["SparseOptimizer"]


class SparseOptimizer(OurAdam):
    """Base of RecIS's sparse optimizers, which are kinds of Adam; made by its subclasses.

    Other than in recis_core.optim
      - with set_grad_accum_steps(n), `step()` and `zero_grad()` act on each n-th call alone; the sum of n backwards over n
        is applied;
      - t counts, for all tables of one storage together, the steps in which that storage had a gradient;
      - `state_dict()` holds the tables and the powers beta1^t and beta2^t under RecIS's names.

    Args:
      param_dict: {name: table}, from filter_out_sparse_param(model).

    Raises:
      TypeError, ValueError: param_dict holds no tables, or a number is out of range.
    """

    prefix: str  # of RecIS's names of slots and numbers
    powers_shape: tuple[int, ...] = ()

    def __init__(
        self, param_dict: Mapping[str, Any], lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
    ) -> None:
        self._local_step = 0
        self._impls: dict[Table, HashtableImpl] = {}
        self._sparse: dict[str, Any] = {}
        self._busy: set[Table] = set()
        super().__init__(tables_of(param_dict), lr, beta1, beta2, eps, weight_decay)
        self.param_groups[0].setdefault("initial_lr", lr)
        self._remember(param_dict)
        one = torch.ones(self.powers_shape)
        self._powers = {f"{self.prefix}_beta2": one.clone(), f"{self.prefix}_beta1": one}
        self._powers[f"{self.prefix}_step"] = torch.zeros(1, dtype=torch.int64)  # RecIS leaves it 0
        self._write_powers()

    @property
    def slot_names(self) -> dict[str, str]:
        """RecIS's name of each of our slots."""
        return {"m": f"{self.prefix}_exp_avg", "v": f"{self.prefix}_exp_avg_sq"}

    def _remember(self, params: Mapping[str, Any]) -> None:
        impls = {name: getattr(value, "_hashtable_impl", value) for name, value in params.items()}
        self._sparse.update(impls)
        self._impls.update({impl.physical: impl for impl in impls.values()})

    def add_params(self, param_dict: Mapping[str, Any], **numbers: Any) -> None:
        """Add tables as a new group."""
        super().add_params(tables_of(param_dict), **numbers)
        self._remember(param_dict)

    def filter_param_dict(self, param_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Each table once, by the first of its names."""
        found: dict[str, Any] = {}
        for name, value in param_dict.items():
            if not any(value is other for other in found.values()):
                found[name] = value
        return found

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Count a call; on each n-th apply the gradients since the last over n.

        Raises:
          NonFiniteGradient: a gradient is NaN or inf; nothing was changed. RecIS would apply it.
        """
        self._local_step += 1
        if self._local_step % self._grad_accum_steps:
            return None
        loss = super().step(closure)
        self._write_powers()
        for impl in self._impls.values():
            impl.stepped()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Discard pending gradients; between the n-th calls of step do nothing."""
        if self._local_step % self._grad_accum_steps == 0:
            super().zero_grad(set_to_none)
            for impl in self._impls.values():
                impl.stepped()

    def _sync_gradients(self, storages: list[Table]) -> list[Table]:
        busy = super()._sync_gradients(storages)
        self._busy = {table for table in busy if self._impls[table].asked}
        return busy

    def next_t(self, storage: Table) -> tuple[int, ...]:
        t = max(self._tables.t[name] for name in storage.names)
        return (t + (storage in self._busy),) * len(storage.names)

    def _write_powers(self) -> None:
        """The powers of the largest t, in place: state dicts that were given out follow."""
        t = max(self._tables.t.values())
        for name, beta in self._betas().items():
            self._powers[name].fill_(beta**t)

    def _betas(self) -> dict[str, float]:
        beta1, beta2 = self.param_groups[0]["betas"]
        return {f"{self.prefix}_beta2": float(beta2), f"{self.prefix}_beta1": float(beta1)}

    def state_dict(self) -> dict[str, Any]:
        """{name: table}, then beta2's and beta1's powers float32 and step int64 [1], which stays 0. The tensors are live."""
        return {**self._sparse, **self._powers}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take t of all tables from beta2's power; rows and slots are in the tables.

        Raises:
          ValueError: the state has no power of beta2 of this optimizer, or one outside (0, 1].
        """
        _, steps = split_sparse_dense_state_dict(dict(state_dict))
        name = f"{self.prefix}_beta2"
        if name not in steps:
            raise ValueError(
                f"the state must hold {name}; got {', '.join(steps) or 'no numbers'}: another optimizer's."
            )
        t = _steps_of(steps[name], self._betas()[name])
        self._tables.t = dict.fromkeys(self._tables.t, t)
        self._write_powers()


def _steps_of(power: Tensor, beta: float) -> int:
    """t of beta^t, exact to about 6e-5 t, for the power is float32.

    Raises:
      ValueError: the power is outside (0, 1].
    """
    value = float(power)
    if not 0 < value <= 1:
        raise ValueError(f"a power of beta2 = {beta} must be in (0, 1]; got {value}.")
    return 0 if value == 1 or beta in (0.0, 1.0) else round(math.log(value) / math.log(beta))
