"""The sparse side's stand-in among dense parameters: one scalar whose gradient every torch tool may scale.

A GradScaler unscales, a clipper clips and a user divides `.grad`s in place. Whatever
multiplies this one's `.grad` multiplies the sparse gradient at the step. It is 2**-60, zero
beside any real gradient's norm, yet exact to read a factor from; or inf where the sparse
gradient is not finite, so that an unmodified scaler skips dense and sparse together.
It is float64, because a scaler unscales gradients of one dtype in one call, and torch warns of a plain
tensor among FSDP2's DTensors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from backends.errors import RecisError

UNIT = 2.0**-60


class GradientHandle(nn.Parameter):
    """A scalar parameter of a sparse optimizer's group; reading `.grad` syncs the sparse gradients first.

    It belongs to no module, so DDP and FSDP never see it, and it is never decayed or moved.
    """

    _sync: Callable[[], tuple[bool, bool]]
    _scaled: Tensor | None

    def __new__(cls, sync: Callable[[], tuple[bool, bool]], device: torch.device) -> GradientHandle:
        """sync() combines what is pending and gives (is there any gradient, is it finite)."""
        handle = torch.Tensor._make_subclass(cls, torch.zeros(1, dtype=torch.float64, device=device), True)
        handle._sync, handle._scaled = sync, None
        return handle

    def __init__(self, sync: Callable[[], tuple[bool, bool]], device: torch.device) -> None:
        super().__init__()

    @property
    def grad(self) -> Tensor | None:
        """Tensor [1]: 2**-60 times all factors so far, inf if a sparse gradient is not finite; None without one."""
        pending, finite = self._sync()
        if not pending:
            return None
        if self._scaled is None:
            self._scaled = torch.full((1,), UNIT, dtype=torch.float64, device=self.device)
        if not finite:
            self._scaled.fill_(float("inf"))
        return self._scaled

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and value is not self._scaled:
            raise RecisError(
                "a sparse gradient can be scaled in place or dropped (None), not set: rows have theirs from backward. "
                "Give get_optimizer_state_dict the dense optimizer, joint.dense; joint.sparse.state_dict() is plain."
            )
        self._scaled = value

    def factor(self) -> float:
        """What the sparse gradient is multiplied by at the step; 1 unless someone scaled `.grad`."""
        return 1.0 if self._scaled is None else float(self._scaled) / UNIT

    def __reduce_ex__(self, protocol: int) -> tuple[object, ...]:  # type: ignore[override]
        raise TypeError("a GradientHandle is made by its optimizer; save the optimizer's state_dict() instead.")
