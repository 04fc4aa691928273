"""An engine's tables as its submodules."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from recis_core.backends.errors import RecisError


class EngineTables(nn.Module):
    """Tables by name. The engine makes them; none can be added or removed."""

    def add_module(self, name: str, module: nn.Module | None) -> NoReturn:
        raise RecisError(
            f"the tables of an engine are made with it; {name!r} cannot be set. Load rows by load_state_dict() or "
            "HashTable.insert(), or build an engine with other options."
        )

    register_module = add_module

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module) or name in self.__dict__.get("_modules", ()):
            self.add_module(name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._modules:
            self.add_module(name, None)
        super().__delattr__(name)
