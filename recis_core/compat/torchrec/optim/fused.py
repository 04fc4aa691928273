"""The optimizers in backward of a model, as one: their numbers and states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from recis_core.compat.torchrec.modules.collection import TableCollection
from recis_core.compat.torchrec.optim.keyed import KeyedOptimizer


class FusedOptimizer(KeyedOptimizer):
    """Tables' optimizers in backward. step() and zero_grad() do nothing, for backward has done it; LR schedulers set its groups.

    As torchrec.optim.fused.FusedOptimizer.
    """

    def __init__(self, model: nn.Module) -> None:
        found = [module for module in model.modules() if isinstance(module, TableCollection)]
        for collection in found:
            collection._in_backward.prepare(collection.table_parameters())
        self._made = [made for collection in found for made in collection._in_backward.made]
        params = {n: p for n, p in model.named_parameters() if any(p is q for c in found for q in c.table_parameters())}
        super().__init__(
            {n: p for n, p in params.items() if hasattr(p, "_in_backward_optimizers")},
            {str(i): made for i, (made, _, _) in enumerate(self._made)},
        )

    @property
    def param_groups(self) -> list[Any]:
        return [group for _, _, groups in self._made for group in groups]

    @param_groups.setter
    def param_groups(self, groups: object) -> None:
        """Kept as they are while the base begins."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return None if closure is None else closure()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: backward has dropped the gradients."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for made, _, groups in self._made:
            for mine, group in zip(made.param_groups, groups, strict=True):
                group.update({name: value for name, value in mine.items() if name in group and name != "params"})  # type: ignore[attr-defined]
