"""The names of all tables of the process."""

from __future__ import annotations

from collections.abc import Iterable

from recis_core.compat.recis.common.singleton import SingletonMeta


class HashtableRegister(metaclass=SingletonMeta):
    """In RecIS a process has one table of a name, also after that table is gone."""

    def __init__(self) -> None:
        self._hashtables: dict[str, str] = {}

    def register(self, name: str, info: str) -> None:
        """Raises ValueError: the process has had a table of that name."""
        self.require_free([name])
        self._hashtables[name] = info

    def require_free(self, names: Iterable[str]) -> None:
        """Raises ValueError: the process has had a table of one of the names."""
        for name in names:
            if name in self._hashtables:
                raise ValueError(
                    f"a table {name!r} was made in this process before, as {self._hashtables[name]}; give this one another "
                    "shared_name. recis_core.nn has no such rule."
                )
