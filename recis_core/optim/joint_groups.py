"""What torch reads of a joined optimizer as of one: its groups and its defaults."""

from __future__ import annotations

from collections import UserDict
from typing import Any, NoReturn

import torch

from recis_core.backends.errors import RecisError
from recis_core.optim.gradient_handle import GradientHandle
from recis_core.optim.sparse_optimizer import SparseOptimizer


class JointGroups(list[dict[str, Any]]):
    """Groups of both sides; the list itself is of the moment, so it refuses to be changed."""

    @staticmethod
    def refuse(*_: object, **__: object) -> NoReturn:
        raise RecisError(
            "the groups of a joined optimizer are its two sides' own. Add one by add_param_group(), which passes it to "
            "its side; change joint.dense.param_groups or joint.sparse.param_groups for anything else."
        )

    append = extend = insert = remove = pop = clear = sort = reverse = refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = refuse


class JointState(UserDict[Any, Any]):
    """The dense side's state itself; empty for what stands for tables, and to ask for that leaves nothing behind."""

    def __init__(self, dense: dict[Any, Any]) -> None:
        self.data = dense

    def __getitem__(self, parameter: Any) -> Any:
        return {} if isinstance(parameter, GradientHandle) else self.data[parameter]


def joint_defaults(dense: torch.optim.Optimizer, sparse: SparseOptimizer) -> dict[str, Any]:
    """The dense side's, by which schedulers tell how to cycle momentum; where it has none, the sparse side's momentum.

    Tables answer to both of torch's names, dense groups to their own alone.
    """
    defaults = dict(dense.defaults)
    if {"betas", "momentum"} & set(defaults):
        return defaults
    if "betas" in sparse.defaults:
        return {**defaults, "momentum": sparse.defaults["betas"][0]}
    return {**defaults, "momentum": sparse.defaults["momentum"]} if "momentum" in sparse.defaults else defaults
