"""A model's requires_grad_() and zero_grad() reach its tables.

nn.Module's two methods visit parameters only, and tables have none; overrides in submodules are never called. So
importing recis_core.nn extends these two methods of nn.Module. For models without tables nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from torch import nn

from recis_core.backends.errors import RecisError
from recis_core.nn.hash_table import HashTable


def freeze(tables: Iterable[HashTable], requires_grad: bool = True) -> None:
    for table in tables:
        table.requires_grad = bool(requires_grad)


def drop_gradients(tables: Iterable[HashTable], set_to_none: bool = True) -> None:
    """Discard the pending gradients of these tables.

    Raises:
      RecisError: another table shares their storage, and gradients are pending there.
    """
    names: dict[Any, set[str]] = {}
    for table in tables:
        names.setdefault(table.physical, set()).add(table.name)
    for storage, mine in names.items():
        if storage.has_gradient and (others := set(storage.names) - mine):
            raise RecisError(
                f"tables {', '.join(sorted(mine))} share storage with {', '.join(sorted(others))}, whose gradients "
                "zero_grad() of these alone would take along. Call it on the engine, or give them EmbeddingOption(storage=…)."
            )
    for storage in names:
        storage.discard()
        if storage.optimizer is not None:
            storage.optimizer.drop_factors()


def _reach(name: str, visit: Callable[..., None]) -> None:
    plain = getattr(nn.Module, name)
    if getattr(plain, "reaches_tables", False):
        return

    @wraps(plain)
    def verb(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = plain(self, *args, **kwargs)
        tables = [module for module in self.modules() if isinstance(module, HashTable)]
        if tables:
            visit(tables, *args, **kwargs)
        return result

    verb.reaches_tables = True  # type: ignore[attr-defined]
    setattr(nn.Module, name, verb)


_reach("requires_grad_", freeze)
_reach("zero_grad", drop_gradients)
