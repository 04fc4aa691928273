"""A model's requires_grad_() and zero_grad() reach the tables in it.

Both of nn.Module's walk over parameters, of which tables have none, so no override below the model would ever be
called. Importing recis_core.nn adds to these two methods of nn.Module; a model without tables is none the wiser.
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
    """Discard what backward has left for these tables.

    Raises:
      RecisError: a table that shares their storage is not among them, and gradients wait for it, too.
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
