"""How a model's tables are spread over ranks: all alike, or by name as a plan says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recis_core.exchange import Sharding

Shardings = str | Sharding | Mapping[str, str | Sharding]


def sharding_of(given: Shardings, *names: str) -> Sharding:
    """Of a table: what is given for the first of these names; by row where none is named."""
    if not isinstance(given, Mapping):
        return Sharding.of(given)
    return next((Sharding.of(given[name]) for name in names if name in given), Sharding())


def check_names(given: Shardings, tables: Sequence[str]) -> None:
    """Raises ValueError where a table is named that the model does not have."""
    unknown = [name for name in given if name not in tables] if isinstance(given, Mapping) else []
    if unknown:
        raise ValueError(f"the plan names tables {unknown}, which the model does not have; it has {', '.join(tables)}.")
