"""One process's state, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from recis_core.serialize.manifest import Head, checked_step
from recis_core.serialize.places import written_aside
from recis_core.serialize.saved_state import split_parts, write_parts
from recis_core.serialize.store_path import Place, place_of


def save_state(directory: str | os.PathLike[str] | Place, step: int, state: Mapping[str, Any]) -> Place:
    """Write `state`, {part: nested dicts, lists, scalars and tensors}; whole or not at all.

    At every instant the directory holds the new state or the former state of this step. Only the user can read the files
    (mode 0600), unless RECIS_FILE_MODE sets another mode.

    Returns:
      the state's directory, DIR/step-…; an existing one is replaced. Of a URL a place in its store, where a state is there once
      its manifest is, which is written last.

    Raises:
      TypeError, ValueError: something in `state` has no safe form, or a part's name cannot name a file; nothing was written.
      StorageInUse: another process is saving there.
      OSError: the system's error; the former state is unchanged.
    """
    checked_step(step)
    parts = split_parts(state)
    with written_aside(place_of(directory), step) as aside:
        aside.commit(step, write_parts(aside.files, parts), Head())
        return aside.final
