"""A joined optimizer's groups, state and defaults, as torch reads them."""

from __future__ import annotations

from collections import UserDict
from typing import Any, NoReturn

import torch

from recis_core.backends.errors import RecisError
from recis_core.optim.gradient_handle import GradientHandle
from recis_core.optim.sparse_optimizer import SparseOptimizer


class JointGroups(list[dict[str, Any]]):
    """Groups of both sides. The list is made at each access, so changing the list raises."""

    @staticmethod
    def refuse(*_: object, **__: object) -> NoReturn:
        raise RecisError(
            "the groups of a joined optimizer are its two sides' own. Add one by add_param_group(), which passes it to "
            "its side; change joint.dense.param_groups or joint.sparse.param_groups for anything else."
        )

    append = extend = insert = remove = pop = clear = sort = reverse = refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = refuse


class JointState(UserDict[Any, Any]):
    """The dense side's state; for a GradientHandle an empty dict, which is not stored."""

    def __init__(self, dense: dict[Any, Any]) -> None:
        self.data = dense

    def __getitem__(self, parameter: Any) -> Any:
        return {} if isinstance(parameter, GradientHandle) else self.data[parameter]


def joint_defaults(dense: torch.optim.Optimizer, sparse: SparseOptimizer) -> dict[str, Any]:
    """The dense side's defaults; if they have neither betas nor momentum, with the sparse side's momentum.

    Schedulers read from defaults whether to cycle betas or momentum. Groups of tables have both, dense groups only one.
    """
    defaults = dict(dense.defaults)
    if {"betas", "momentum"} & set(defaults):
        return defaults
    if "betas" in sparse.defaults:
        return {**defaults, "momentum": sparse.defaults["betas"][0]}
    return {**defaults, "momentum": sparse.defaults["momentum"]} if "momentum" in sparse.defaults else defaults
