"""Arguments of hooks, checked where a hook is made."""

from __future__ import annotations


def check_count(name: str, value: object) -> None:
    """Raises TypeError or ValueError unless value is an int >= 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int; got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1; got {value}.")
