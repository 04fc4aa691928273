"""A sparse optimizer's group: a dict as torch's, whose numbers have torch's names and RecIS's.

    Adam       betas (b1, b2)    also "beta1", "beta2"; "momentum" is b1
    SGD        momentum          also "betas", (momentum,)
    Adagrad    neither           "betas" reads as (); to set it or "momentum" does nothing

Torch's schedulers that cycle momentum set one of the two names in every group of an optimizer. A joined optimizer has
the name of its dense side, so groups of tables accept both.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

_ABSENT = object()


class TableGroup(dict[str, Any]):
    """{"params": [handle], "tables": names, "lr": …}"""

    def __missing__(self, name: str) -> Any:
        value = self._by_other_name(name)
        if value is _ABSENT:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        if name in self:
            return self[name]
        value = self._by_other_name(name)
        return default if value is _ABSENT else value

    def _by_other_name(self, name: str) -> Any:
        if name == "betas":
            return (self["momentum"],) if "momentum" in self else ()
        places = {"beta1": 0, "beta2": 1, "momentum": 0}
        return self["betas"][places[name]] if "betas" in self and name in places else _ABSENT

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self or name not in ("betas", "beta1", "beta2", "momentum"):
            super().__setitem__(name, value)
        elif "betas" in self:
            one, two = self["betas"]
            super().__setitem__("betas", (one, value) if name == "beta2" else (value, two))
        elif "momentum" in self and name == "betas":
            super().__setitem__("momentum", value[0])

    def update(self, *others: Any, **more: Any) -> None:
        for name, value in dict(*others, **more).items():
            self[name] = value


def plain(group: dict[str, Any], leave_out: tuple[str, ...]) -> dict[str, Any]:
    """A dict for a state: tensors of one number become floats."""
    return {name: _plain(value) for name, value in group.items() if name not in leave_out}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    return float(value) if isinstance(value, Tensor) and value.numel() == 1 else value
