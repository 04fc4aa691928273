"""AdamWTF of dense parameters.

w ← (1 − wd)·w;  m ← β1·m + (1−β1)·g;  v ← β2·v + (1−β2)·g²;  w ← w − lr·√(1−β2ᵗ)/(1−β1ᵗ) · m/(√v + eps)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core.optim.hyperparameters import check_numbers


class AdamWTF(torch.optim.Optimizer):
    """Adam as TensorFlow writes it, with decay that does not depend on lr: eps stands outside of the corrected root.

    State of a parameter: step, a float32 scalar; exp_avg, exp_avg_sq.

    Args:
      fuse: accepted; both ways give the same here.

    Raises:
      ValueError: a number is out of range, or use_nesterov is True.

    As recis.optim.AdamWTF.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        use_nesterov: bool = False,
        *,
        maximize: bool = False,
        fuse: bool = True,
    ) -> None:
        if use_nesterov:
            raise ValueError("AdamWTF has no use_nesterov.")
        numbers = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        check_numbers(numbers)
        super().__init__(params, {**numbers, "use_nesterov": False, "maximize": maximize, "fuse": fuse})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient.

        Raises:
          RuntimeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self._state_of(parameter), group["betas"]
        numbers = {name: group[name] for name in ("use_nesterov", "lr", "weight_decay", "eps", "maximize", "fuse")}
        moments = ([state["exp_avg"]], [state["exp_avg_sq"]], [state["step"]])
        adamwtf([parameter], [parameter.grad], *moments, beta1=beta1, beta2=beta2, **numbers)

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state


def maybe_get_value(inp: Any) -> Any:
    """The number of a tensor of one; anything else as it is."""
    return inp.item() if isinstance(inp, Tensor) else inp


@torch.no_grad()
def adamwtf(
    params: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    state_steps: Sequence[Tensor],
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
    *,
    use_nesterov: bool,
    beta1: float,
    beta2: float,
    lr: float | Tensor,
    weight_decay: float,
    eps: float,
    maximize: bool,
    fuse: bool,
) -> None:
    """A step of AdamWTF on parameters and their states, all in place; state_steps count first.

    Raises:
      RuntimeError: a gradient is sparse. ValueError: use_nesterov, grad_scale or found_inf is given, which RecIS takes neither.
    """
    if use_nesterov or grad_scale is not None or found_inf is not None:
        raise ValueError(
            "adamwtf has no use_nesterov, and takes unscaled gradients: leave grad_scale and found_inf out."
        )
    for param, grad, exp_avg, exp_avg_sq, step in zip(params, grads, exp_avgs, exp_avg_sqs, state_steps, strict=True):
        if grad is None or grad.is_sparse:
            raise RuntimeError("AdamWTF takes dense gradients; got a sparse one. Tables have SparseAdamWTF.")
        grad = -grad if maximize else grad
        step += 1
        t = float(step)
        param.mul_(1 - weight_decay)
        exp_avg.lerp_(grad, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        alpha = float(maybe_get_value(lr)) * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        param.addcdiv_(exp_avg, exp_avg_sq.sqrt().add_(eps), value=-alpha)
