"""The tiers inside a table's state. Apart, for what the tiers import is heavy, and most tables have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recis_core.table.tiers.tiered_state import TieredState


def tiered(state: Any) -> TieredState | None:
    """Under whatever wraps them; None where there are none."""
    while state is not None and not getattr(state, "is_tiers", False):
        state = getattr(state, "inner", None)
    found: TieredState | None = state
    return found
