"""One optimizer over the dense and the sparse side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.algorithms.join import Joinable, JoinHook

from recis_core.optim.sparse_optimizer import SparseOptimizer
from recis_core.uninterrupted import as_one


class JointOptimizer(torch.optim.Optimizer, Joinable):
    """Steps a dense and a sparse optimizer as one; made by `join`.

    Its groups are the two's own, so LR schedulers and an unmodified GradScaler drive both: the
    sparse side's gradient is a scalar that is inf when any sparse gradient is not finite, and
    whose unscaling unscales the rows' gradients.
    """

    def __init__(self, dense: torch.optim.Optimizer, sparse: SparseOptimizer) -> None:
        self.dense, self.sparse = dense, sparse
        # The two keep their groups; a group added to either later is seen here too.
        torch.optim.Optimizer.__init__(self, [*dense.param_groups, *sparse.param_groups], {})
        Joinable.__init__(self)
        self.param_groups = _Groups(dense, sparse)
        sparse.watch_dense(self._dense_finite)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        # GradScaler.step asks for this first. False: it then decides by the gradients it has unscaled.
        self.sparse.require_no_overlap()
        return False

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """For torch's Join: the sparse step of each of the others'; nothing of the dense side."""
        return self.sparse.join_hook(**kwargs)

    @property
    def join_device(self) -> torch.device:
        return self.sparse.join_device

    @property
    def join_process_group(self) -> Any:
        return self.sparse.join_process_group

    def _dense_finite(self) -> bool:
        """Of this rank's dense gradients, or its shards of them."""
        grads = (p.grad for group in self.dense.param_groups for p in group["params"] if p.grad is not None)
        return all(bool(getattr(g, "_local_tensor", g).isfinite().all()) for g in grads)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step both. Raises NonFiniteGradient, with both unchanged, if a sparse gradient is not finite."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step()
        return loss

    @as_one
    def _step(self) -> None:
        self.sparse.require_finite()
        self.dense.step()
        self.sparse.step()

    @as_one
    def zero_grad(self, set_to_none: bool = True) -> None:
        self.dense.zero_grad(set_to_none)
        self.sparse.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"dense": self.dense.state_dict(), "sparse": self.sparse.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.dense.load_state_dict(state_dict["dense"])
        self.sparse.load_state_dict(state_dict["sparse"])


class _Groups(list):
    """Both optimizers' groups, read anew each time: loading a state replaces a dense optimizer's dicts."""

    def __init__(self, dense: torch.optim.Optimizer, sparse: SparseOptimizer) -> None:
        super().__init__()
        self._both = dense, sparse

    def _now(self) -> list[dict[str, Any]]:
        dense, sparse = self._both
        return [*dense.param_groups, *sparse.param_groups]

    def __iter__(self) -> Any:
        return iter(self._now())

    def __getitem__(self, index: Any) -> Any:
        return self._now()[index]

    def __len__(self) -> int:
        return len(self._now())


def join(dense: torch.optim.Optimizer, sparse: SparseOptimizer) -> JointOptimizer:
    """One Optimizer over both, for torch.amp.GradScaler, LR schedulers and plain loops.

    Raises:
      TypeError: the second is not a sparse optimizer, or the first one is.
    """
    if not isinstance(sparse, SparseOptimizer) or isinstance(dense, SparseOptimizer | JointOptimizer):
        raise TypeError(f"join takes (dense, sparse) optimizers; got {type(dense).__name__}, {type(sparse).__name__}.")
    return JointOptimizer(dense, sparse)
