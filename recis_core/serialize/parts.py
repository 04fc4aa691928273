"""Parts of a state that is loaded; errors name the file of the part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from recis_core.backends.errors import CorruptCheckpoint, StateMismatch
from recis_core.serialize.saved_state import SavedState

WRONG = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


def part_of_state(state: Mapping[str, Any], part: str) -> Any:
    """Raises StateMismatch if the part is missing, CorruptCheckpoint if its file is damaged."""
    if part not in state:
        where = state.path if isinstance(state, SavedState) else "the state"
        raise StateMismatch(f"{where} lacks the part {part!r}; it has {', '.join(sorted(state))[:200]}.")
    return state[part]


@contextmanager
def naming(state: Any, *parts: str) -> Iterator[None]:
    """Errors inside, from values of these parts, become a StateMismatch that names the parts, or their files."""
    try:
        yield
    except CorruptCheckpoint:
        raise
    except WRONG as error:
        fault = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise StateMismatch(f"{_where(state, parts)}: {fault}") from error


def _where(state: Any, parts: tuple[str, ...]) -> str:
    if (file_of := getattr(state, "file_of", None)) is not None:
        return ", ".join(str(file_of(part)) for part in parts)
    return f"part {', '.join(parts)} of the state"
