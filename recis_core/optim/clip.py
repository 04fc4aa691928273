"""Clipping by the global norm of dense and sparse gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from recis_core.optim.gradient_handle import GradientHandle
from recis_core.optim.joint import JointOptimizer
from recis_core.optim.sparse_optimizer import SparseOptimizer
from recis_core.plain_torch import in_plain_torch, without_gradients


@without_gradients
@in_plain_torch
def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor | JointOptimizer,
    max_norm: float,
    *,
    sparse: SparseOptimizer | None = None,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients so that their joint 2-norm is at most max_norm; call after backward and after unscale.

    norm² = Σ dense² + Σ over tables and rows of the row's summed gradient²; DTensors count in full.

    Args:
      parameters: dense parameters; or a joint optimizer, for its dense and sparse gradients.
      max_norm: > 0.
      sparse: the sparse optimizer, if `parameters` are dense ones.
      error_if_nonfinite: raise RuntimeError if the norm is NaN or inf, instead of scaling by it.

    Returns:
      0-d float32: the norm before clipping.

    As torch.nn.utils.clip_grad_norm_, for norm_type 2. Pascanu et al. 2013.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be > 0; got {max_norm}.")
    dense, sparse = _sides(parameters, sparse)
    grads = [p.grad for p in dense if p.grad is not None]
    squares = sum(float(_whole(g.double().square().sum())) for g in grads)
    norm = math.sqrt(squares + (0.0 if sparse is None else sparse.squared_norm()))
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"the gradient norm is {norm}; pass error_if_nonfinite=False to clip all the same.")
    coefficient = min(1.0, max_norm / (norm + 1e-6)) if not math.isnan(norm) else norm
    for grad in [*grads, *_handle_grads(sparse)]:
        grad.mul_(coefficient)
    return torch.tensor(norm)


def _sides(parameters: object, sparse: SparseOptimizer | None) -> tuple[list[Tensor], SparseOptimizer | None]:
    if isinstance(parameters, JointOptimizer):
        return [p for group in parameters.dense.param_groups for p in group["params"]], parameters.sparse
    if isinstance(parameters, Tensor):
        return [parameters], sparse
    return [p for p in parameters if not isinstance(p, GradientHandle)], sparse  # type: ignore[attr-defined]


def _whole(total: Tensor) -> Tensor:
    """A DTensor's full tensor; other tensors unchanged."""
    full = getattr(total, "full_tensor", None)
    return total if full is None else full()


def _handle_grads(sparse: SparseOptimizer | None) -> list[Tensor]:
    handles = [] if sparse is None else sparse.handles()
    return [grad for handle in handles if (grad := handle.grad) is not None]
