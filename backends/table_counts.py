"""What a table in host arrays or torch tensors has counted."""

from __future__ import annotations

from dataclasses import replace

from recis_core.backends.spec import Counters
from recis_core.backends.whole import Changing, settle


def rows_by_table(state: Changing) -> tuple[int, ...]:
    settle(state)
    return tuple(state.by_table.tolist())


def counters(state: Changing) -> Counters:
    settle(state)
    return replace(state.counters, rows=state.used, buckets=state.index.buckets, stashed=state.index.stashed)
