"""Which columns of a piece need work to become what their uses ask for: found once for each schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from recis_core.io.feature import Use
from recis_core.io.text_columns import is_text_id


@dataclass(frozen=True)
class ColumnPlan:
    """Numbers of uses. texts: ids of text, all hashed in one call. ready: of the target type already, and never refused."""

    texts: tuple[int, ...]
    ready: frozenset[int]


class ColumnPlans:
    """uses: each with the type that its column is read as."""

    def __init__(self, uses: Sequence[tuple[Use, pa.DataType]]) -> None:
        self._uses = uses
        self._found: list[tuple[pa.Schema, ColumnPlan]] = []  # few; two threads may add one twice

    def of(self, schema: pa.Schema) -> ColumnPlan:
        """The plan of tables of a schema."""
        for known, plan in self._found:
            if known.equals(schema):
                return plan
        plan = self._made(schema)
        self._found.append((schema, plan))
        return plan

    def _made(self, schema: pa.Schema) -> ColumnPlan:
        types = [schema.field(use.column).type for use, _ in self._uses]
        texts = [n for n, (use, _) in enumerate(self._uses) if is_text_id(use, types[n])]
        ready = [n for n, (use, target) in enumerate(self._uses) if use.role.keeps and types[n] == target]
        return ColumnPlan(tuple(texts), frozenset(ready) - frozenset(texts))
