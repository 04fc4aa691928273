"""One storage's part of an optimizer step. All parts are made before any table changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recis_core.backends import UpdateRule
from recis_core.table.table import Table


@dataclass(frozen=True)
class TableStep:
    """t: of each logical table, after this step."""

    storage: Table
    rule: UpdateRule
    hyper: np.ndarray
    factor: float
    t: tuple[int, ...]

    def apply(self) -> None:
        self.storage.update(self.rule, self.hyper, self.factor, self.t)

    @property
    def done(self) -> bool:
        return self.storage.applied is self.t

    def t_of_tables(self) -> Iterator[tuple[str, int]]:
        return zip(self.storage.names, self.t, strict=True)


def outcome_of(steps: Sequence[TableStep]) -> str:
    """The note of a failed step: which tables were stepped."""
    names = {done: [n for step in steps if step.done == done for n in step.storage.names] for done in (True, False)}
    if not names[True]:
        return "No table was changed, and all keep their gradients: call step() again, or zero_grad() to drop them."
    return (
        f"Of this step tables {', '.join(names[True])} were stepped; {', '.join(names[False]) or 'none'} were not, and keep "
        "their gradients. step() again applies those alone; zero_grad() drops them."
    )
