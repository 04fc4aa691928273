"""The shardings of a model's tables: one for all, or by name, as in a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recis_core.exchange import Sharding

Shardings = str | Sharding | Mapping[str, str | Sharding]


def sharding_of(given: Shardings, *names: str) -> Sharding:
    """A table's sharding: that of the first of these names with an entry, else "row"."""
    if not isinstance(given, Mapping):
        return Sharding.of(given)
    return next((Sharding.of(given[name]) for name in names if name in given), Sharding())


def check_names(given: Shardings, tables: Sequence[str]) -> None:
    """Raises ValueError if `given` names a table that the model does not have."""
    unknown = [name for name in given if name not in tables] if isinstance(given, Mapping) else []
    if unknown:
        raise ValueError(f"the plan names tables {unknown}, which the model does not have; it has {', '.join(tables)}.")
