"""A scalar parameter that represents a group of tables; torch's tools scale its gradient.

A GradScaler unscales, a clipper clips and a user divides `.grad`s in place. Each factor of the handle's `.grad` becomes
a factor of the sparse gradient at the step. `.grad` starts at 2**-60, from which a factor is read exactly; it is inf if
the sparse gradient is not finite, so that an unmodified scaler skips dense and sparse together. Its 2-norm is that of
the rows' gradients, so that torch.nn.utils.clip_grad_norm_ clips by the norm over both sides. Operations that would
need the rows, such as a clip by value, raise.
`.grad` is float64: a scaler unscales gradients of one dtype in one call, and torch warns if a plain tensor is among
FSDP2's DTensors there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.backends.errors import RecisError

UNIT = 2.0**-60

NORMS = {"linalg_vector_norm", "vector_norm", "norm", "_foreach_norm"}
TWO = (None, 2, "fro")
WRAPPED = {"detach", "alias"}
SCALES = {"mul_", "div_", "true_divide_", "divide_", "multiply_", "__imul__", "__itruediv__", "zero_"}
SCALES |= {"_foreach_mul_", "_foreach_div_", "_foreach_zero_", "_amp_foreach_non_finite_check_and_unscale_"}
READS = {"item", "tolist", "numpy", "clone", "to", "cpu", "cuda", "float", "double", "type", "size", "dim", "numel"}
READS |= {"stride", "element_size", "data_ptr", "untyped_storage", "storage_offset", "get_device", "record_stream"}
READS |= {"requires_grad_", "detach_", "share_memory_", "pin_memory", "ndimension", "contiguous", "as_subclass"}
READS |= {"isfinite", "isnan", "isinf", "isreal", "nelement", "has_names", "equal", "allclose", "_is_view", "__set__"}


class RowsGradient(Tensor):
    """The handle's `.grad`."""

    rows_norm: Callable[[], float]  # norm before any factor; collective if ranks share tables

    @staticmethod
    def around(value: Tensor, rows_norm: Callable[[], float]) -> RowsGradient:
        """A RowsGradient on the memory of value, float64 [1]."""
        gradient = value.as_subclass(RowsGradient)
        gradient.rows_norm = rows_norm
        return gradient

    def norm_by(self, order: Any) -> Tensor:
        """0-d float64: 2-norm of the rows' gradients, with all factors so far."""
        if order not in TWO:
            raise RecisError(
                f"the norm of sparse gradients is known for norm_type=2 alone; got {order}. Use norm_type=2, or clip "
                "the dense parameters and the tables apart: clip_grad_norm_(dense_parameters, …, norm_type=…)."
            )
        factor = float(self) / UNIT
        return torch.tensor(self.rows_norm() * factor, dtype=torch.float64, device=self.device)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(function, "__name__", str(function)), kwargs or {}
        if name in NORMS:
            return _norms(function, *args, **kwargs)
        if not _may_be(name):
            raise RecisError(
                f"{name} of a sparse gradient would need its rows; `.grad` of a joined optimizer's sparse parameter "
                "only scales them, in place. Clip by the norm over both sides, recis_core.optim.clip_grad_norm_("
                "optimizer, max_norm), or clip by value the dense parameters alone. HashTable.grad() has the rows."
            )
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **kwargs)
        if name in WRAPPED or function == Tensor.data.__get__:  # type: ignore[attr-defined]
            return RowsGradient.around(result, args[0].rows_norm)
        return result


def _may_be(name: str) -> bool:
    if name in SCALES or name in READS or name in WRAPPED:
        return True
    return name == "__get__" or name.startswith("is_") or name in ("__float__", "__repr__", "__format__", "__len__")


def _norms(function: Any, value: Any, *more: Any, **kwargs: Any) -> Any:
    order = more[0] if more else kwargs.get("ord", kwargs.get("p", 2))
    if isinstance(value, RowsGradient):
        return value.norm_by(order)
    return [_norms(function, v, order) if isinstance(v, RowsGradient) else function([v], order)[0] for v in value]


class GradientHandle(nn.Parameter):
    """A scalar parameter of a sparse optimizer's group; reading `.grad` syncs the sparse gradients first.

    The handle belongs to no module, so DDP and FSDP never see it; it is never decayed or moved.
    """

    _sync: Callable[[], tuple[bool, bool]]
    _norm: Callable[[], float]
    _drop: Callable[[], None]
    _scaled: RowsGradient | None

    def __new__(
        cls,
        sync: Callable[[], tuple[bool, bool]],
        norm: Callable[[], float],
        drop: Callable[[], None],
        device: torch.device,
    ) -> GradientHandle:
        """sync() combines pending gradients and returns (is there any, is it finite); norm() returns their 2-norm;
        drop() discards them."""
        handle = torch.Tensor._make_subclass(cls, torch.zeros(1, dtype=torch.float64, device=device), True)
        handle._sync, handle._norm, handle._drop, handle._scaled = sync, norm, drop, None
        return handle

    def __init__(self, *_: object) -> None:
        super().__init__()

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        if not requires_grad:
            raise RecisError("freeze tables themselves: engine.requires_grad_(False), or table.requires_grad = False.")
        return self

    @property
    def grad(self) -> Tensor | None:
        """Tensor [1]: 2**-60 times all factors so far, inf if a sparse gradient is not finite; None without one."""
        pending, finite = self._sync()
        if not pending:
            return None
        if self._scaled is None:
            value = torch.full((1,), UNIT, dtype=torch.float64, device=self.device)
            self._scaled = RowsGradient.around(value, self._norm)
        if not finite:
            self._scaled.as_subclass(Tensor).fill_(float("inf"))
        return self._scaled

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and value is not self._scaled:
            raise RecisError(
                "a sparse gradient can be scaled in place or dropped (None), not set: rows have theirs from backward. "
                "Give get_optimizer_state_dict the dense optimizer, joint.dense; joint.sparse.state_dict() is plain."
            )
        if value is None:
            self.forget_factor()
            self._drop()

    def forget_factor(self) -> None:
        """Reset `.grad`, after a step or after gradients were dropped."""
        self._scaled = None

    def factor(self) -> float:
        """The factor of the sparse gradient at the step; 1 unless `.grad` was scaled."""
        return 1.0 if self._scaled is None else float(self._scaled) / UNIT

    def __reduce_ex__(self, protocol: int) -> tuple[object, ...]:  # type: ignore[override]
        raise TypeError("a GradientHandle is made by its optimizer; save the optimizer's state_dict() instead.")
