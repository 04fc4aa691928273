"""States in a store: each is there once its manifest is."""

from __future__ import annotations

from recis_core.serialize.manifest import MANIFEST
from recis_core.serialize.state_directory import state_name, step_of_name
from recis_core.serialize.store_path import StorePath


def steps_in_store(directory: StorePath) -> list[int]:
    """Of its states, ascending; empty where there is none."""
    names = [name for name in directory.names() if step_of_name(name) is not None]
    return sorted({step_of_name(name) or 0 for name in names if (directory / name / MANIFEST).exists()})


def latest_in_store(place: StorePath) -> StorePath:
    """The state of the highest step; the place itself, if that is a state. Raises FileNotFoundError."""
    if (place / MANIFEST).exists():
        return place
    if steps := steps_in_store(place):
        return place / state_name(steps[-1])
    raise FileNotFoundError(f"{place} holds no saved state; wanted step-*/{MANIFEST}.")
