"""One optimizer over the dense and the sparse side."""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch.distributed.algorithms.join import Joinable, JoinHook

from recis_core.backends.errors import RecisError
from recis_core.nn.joining import names_here
from recis_core.nn.outside_graphs import outside_graphs
from recis_core.optim.joint_groups import JointGroups, JointState, joint_defaults
from recis_core.optim.optimized_tables import tables_in
from recis_core.optim.optimizer_state import after_hooks, check_dense, check_joint
from recis_core.optim.sparse_optimizer import SparseOptimizer
from recis_core.plain_torch import with_gradients, without_gradients
from recis_core.uninterrupted import as_one


class JointOptimizer(torch.optim.Optimizer, Joinable):
    """Steps a dense and a sparse optimizer as one; made by `join`.

    Its groups are those of the two optimizers, so LR schedulers and an unmodified GradScaler drive both. The sparse side's
    gradient is a scalar: inf if any sparse gradient is not finite; unscaling it unscales the rows' gradients. Other verbs
    of torch's optimizers: docs/pytorch-verbs.md.
    """

    def __init__(self, dense: torch.optim.Optimizer, sparse: SparseOptimizer) -> None:
        self.dense, self.sparse = dense, sparse
        self._joined, self._step_outside_graphs = False, outside_graphs(JointOptimizer._step)
        torch.optim.Optimizer.__init__(self, self.param_groups, joint_defaults(dense, sparse))
        self._joined = True
        Joinable.__init__(self)
        sparse.watch_dense(_finiteness_of(self))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Both optimizers' groups, read at each access, for loading a state replaces a dense optimizer's dicts."""
        return JointGroups([*self.dense.param_groups, *self.sparse.param_groups])

    @param_groups.setter
    def param_groups(self, groups: object) -> None:
        if self._joined:
            JointGroups.refuse()

    @property
    def state(self) -> Any:
        """The dense optimizer's state by parameter. The sparse state is in its tables' slots: HashTable.slot_group()."""
        return JointState(self.dense.state)

    @state.setter
    def state(self, state: object) -> None:
        if self._joined:
            raise RecisError(
                "a joined optimizer's state is its dense one's; set joint.dense.state, or load_state_dict()."
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Pass a group to its side: dense parameters to the dense optimizer, {table name: HashTable} to the sparse one."""
        if not self._joined:
            return
        if not isinstance(param_group, Mapping):
            raise TypeError(f"a group must be a dict; got {type(param_group).__name__}.")
        side = self.dense if tables_in(param_group.get("params")) is None else self.sparse
        side.add_param_group(param_group)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        # GradScaler.step reads this first. False: the scaler decides by the gradients it has unscaled.
        self.sparse.require_no_overlap()
        return False

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """For torch's Join: a sparse step for each step of the other ranks; no dense step."""
        return self.sparse.join_hook(**kwargs)

    @property
    def join_device(self) -> torch.device:
        return self.sparse.join_device

    @property
    def join_process_group(self) -> Any:
        return self.sparse.join_process_group

    def __dir__(self) -> list[str]:
        return names_here(super().__dir__(), self.sparse._physical()[0].exchange)

    def _dense_finite(self) -> bool:
        """Whether this rank's dense gradients, or its shards of them, are finite."""
        grads = (p.grad for group in self.dense.param_groups for p in group["params"] if p.grad is not None)
        return all(bool(getattr(g, "_local_tensor", g).isfinite().all()) for g in grads)

    @without_gradients
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step both. Raises NonFiniteGradient, with both unchanged, if a sparse gradient is not finite."""
        loss = None if closure is None else with_gradients(closure)()
        self._step_outside_graphs(self)
        return loss

    @as_one
    def _step(self) -> None:
        self._require_dense_numbers()
        self.sparse.ends_with_dense = True
        try:
            self.sparse.step()  # first, for it knows which tables it has stepped if the dense step fails
            self.dense.step()
        except BaseException as error:
            if self.sparse.waits_for_dense:
                error.add_note("The sparse tables were stepped; the next step() is of the dense parameters alone.")
            raise
        finally:
            self.sparse.ends_with_dense = False
        self.sparse.ends()

    def _require_dense_numbers(self) -> None:
        """Raises ValueError if a dense group's lr is not finite: a step would make every parameter NaN or inf."""
        for i, group in enumerate(self.dense.param_groups):
            if not math.isfinite(group.get("lr", 0.0)):
                raise ValueError(f"lr of dense group {i} must be finite; got {group['lr']}. Nothing was changed.")

    @as_one
    def zero_grad(self, set_to_none: bool = True) -> None:
        self.dense.zero_grad(set_to_none)
        self.sparse.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = {"dense": self.dense.state_dict(), "sparse": self.sparse.state_dict()}
        return after_hooks(self._optimizer_state_dict_post_hooks, self, state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load both sides' states.

        Raises:
          ValueError: a part is no state of its side's kind of optimizer. Neither side is changed.
        """
        check_joint(state_dict)
        state = after_hooks(self._optimizer_load_state_dict_pre_hooks, self, dict(state_dict))
        check_joint(state)
        check_dense(self.dense, state["dense"])
        sparse = self.sparse.read_state(state["sparse"])
        self.dense.load_state_dict(state["dense"])
        self.sparse.take_state(*sparse)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise RecisError(
            "a joined optimizer cannot be copied or pickled: its sparse side's state is in its tables. Join a second pair "
            "over a second engine, and load this one's state_dict()."
        )

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self.__deepcopy__(None)


def _finiteness_of(joint: JointOptimizer) -> Callable[[], bool]:
    """Whether the dense gradients are finite, for exchanges; holds the optimizer weakly."""
    alive = weakref.ref(joint)

    def finite() -> bool:
        return (found := alive()) is None or found._dense_finite()

    return finite


def join(dense: torch.optim.Optimizer, sparse: SparseOptimizer) -> JointOptimizer:
    """One Optimizer over both, for torch.amp.GradScaler, LR schedulers and plain loops.

    Raises:
      TypeError: sparse is no sparse optimizer, or dense is one.
      RecisError: dense calls its closure several times a step, as LBFGS does.
    """
    if not isinstance(sparse, SparseOptimizer) or isinstance(dense, SparseOptimizer | JointOptimizer):
        raise TypeError(f"join takes (dense, sparse) optimizers; got {type(dense).__name__}, {type(sparse).__name__}.")
    closure = inspect.signature(dense.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise RecisError(
            f"{type(dense).__name__} calls its closure several times a step, and tables take one gradient a step. Step the "
            "two apart: dense.step(closure), then sparse.zero_grad(), one backward, and sparse.step()."
        )
    return JointOptimizer(dense, sparse)
