"""Other frameworks' import names for their classes here: `import recis` then gives recis_core.compat.recis."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

NAMES = ("recis", "torchrec")


class _Same(Loader):
    """Gives the module that is there already, by its own name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.name)
        self.own_spec = module.__spec__  # importlib overwrites it by the alias's
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own_spec


class _Finder(MetaPathFinder):
    """Finds `recis` and `recis.…` as recis_core.compat.recis and its modules."""

    def __init__(self, name: str) -> None:
        self.name, self.home = name, f"recis_core.compat.{name}"

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if fullname != self.name and not fullname.startswith(self.name + "."):
            return None
        there = self.home + fullname.removeprefix(self.name)
        found = find_spec(there)
        if found is None:
            return None
        is_package = found.submodule_search_locations is not None
        return ModuleSpec(fullname, _Same(there), is_package=is_package)


def install(name: str = "recis") -> None:
    """Let `import NAME` in this process give recis_core.compat.NAME, module by module: the same classes by both names.

    Call it before the first `import recis`. A second call changes nothing.

    Raises:
      ValueError: the name is none of those there are.
      ImportError: the real package of that name was imported before.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}; got {name!r}.")
    if any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
        return
    if name in sys.modules:
        raise ImportError(
            f"{name} is imported already, from {getattr(sys.modules[name], '__file__', None)}. Call "
            f"recis_core.compat.install({name!r}) before the first import of it."
        )
    sys.meta_path.insert(0, _Finder(name))
