"""Adagrad with one sum for each row, for dense parameters [n, D]; tables keep the same rule in their own step.

    g ← g + wd·w;  s ← s + mean_d g²;  w ← w − lr/(1 + (t−1)·lr_decay) · g/(√s + eps)

Sizes: n rows, D dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from recis_core.compat.torchrec.modules.table_parameter import TableParameter


class RowWiseAdagrad(torch.optim.Optimizer):
    """As torchrec.optim.RowWiseAdagrad."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        numbers = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        numbers["initial_accumulator_value"] = initial_accumulator_value
        below = {name: value for name, value in numbers.items() if not value >= 0}
        if below:
            raise ValueError(f"numbers of RowWiseAdagrad must be at least 0; got {below}.")
        super().__init__(params, numbers)
        for group in self.param_groups:
            for parameter in group["params"]:
                if not isinstance(parameter, TableParameter):
                    rows = parameter.new_full((len(parameter), 1), initial_accumulator_value)
                    self.state[parameter] = {"step": torch.tensor(0.0), "sum": rows}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _refuse_sparse(parameter.grad)
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])  # type: ignore[union-attr]
        state["step"] += 1
        state["sum"] += gradient.square().mean(1, keepdim=True)  # type: ignore[union-attr]
        lr = group["lr"] / (1 + (float(state["step"]) - 1) * group["lr_decay"])
        parameter.addcdiv_(gradient, state["sum"].sqrt() + group["eps"], value=-lr)  # type: ignore[arg-type]


def _refuse_sparse(gradient: torch.Tensor) -> None:
    if gradient.is_sparse:
        raise RuntimeError("RowWiseAdagrad takes dense gradients; got a sparse one.")
