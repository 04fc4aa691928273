"""What a saved state tells of its run: parts of their own in older states, parts of "extra" in a manager's checkpoints."""

from __future__ import annotations

from typing import Any

from recis_core.serialize import SavedState
from recis_core.serialize.parts import part_of_state

NAMES = {"settings": "settings", "run": "origin"}  # in "extra"


def part_of_run(state: SavedState, part: str) -> dict[str, Any] | None:
    """Its "settings", the run's flags, or its "run", see saving.py; None where it has none, as a state of another program.

    Raises CorruptCheckpoint.
    """
    if part in state:
        return dict(part_of_state(state, part))
    extra = part_of_state(state, "extra") if "extra" in state else {}
    return dict(extra[NAMES[part]]) if NAMES[part] in extra else None


def where_of(state: SavedState, part: str) -> str:
    """The part of the state that holds it, for `naming`."""
    return part if part in state else "extra"
