"""Directories of checkpoints: on this machine, or in a store that fsspec opens.

DIR/step-00000100/manifest.json                         on this machine; a rename puts the whole directory there
URL/step-00000100/manifest.json, 1f…/<part>.safetensors in a store; the manifest is written last
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize.manifest import MANIFEST, Head, Manifest, Written, read_manifest
from recis_core.serialize.saved_state import commit, write_manifest
from recis_core.serialize.state_directory import aside_of, remove_state, saving, state_name, states_in, step_of_name
from recis_core.serialize.store_path import Place, StorePath
from recis_core.serialize.store_states import steps_in_store


def steps_in(directory: Place) -> list[int]:
    """Steps of the checkpoints in a directory, ascending; empty where there is none."""
    if isinstance(directory, StorePath):
        return steps_in_store(directory)
    if not directory.is_dir():
        return []
    return sorted({step_of_name(path.name) or 0 for path in states_in(directory)})


def place_of_step(directory: Place, step: int) -> Place:
    """Where the checkpoint of a step is, or will be."""
    if isinstance(directory, StorePath):
        return directory / state_name(step)
    stranded = [
        path for path in (states_in(directory) if directory.is_dir() else []) if step_of_name(path.name) == step
    ]
    return stranded[-1] if stranded else directory / state_name(step)


class Aside:
    """A checkpoint that is being written. files: the directory of its parts' files."""

    def __init__(self, final: Place, files: Place, folder: str) -> None:
        self.final, self.files, self.folder = final, files, folder

    def commit(self, step: int, written: Written, head: Head) -> str:
        """From then on the checkpoint exists, in place of a former one of its step. Returns its manifest's hash."""
        head = replace(head, folder=self.folder)
        if isinstance(self.final, Path) and isinstance(self.files, Path):
            return commit(self.files, self.final, step, written, head)
        return write_manifest(self.final, step, written, head)


def files_of(directory: Place, step: int, folder: str) -> Place:
    """Where the files of a checkpoint that is being written go. folder: Aside.folder."""
    final = directory / state_name(step)
    return aside_of(final) if isinstance(final, Path) else final / folder


@contextmanager
def written_aside(directory: Place, step: int) -> Iterator[Aside]:
    """A checkpoint to write; what was not committed is removed.

    Raises:
      StorageInUse: another process or thread is saving there. OSError: the directory cannot be made.
    """
    final = directory / state_name(step)
    if isinstance(final, Path):
        with saving(final) as files:
            yield Aside(final, files, "")
        return
    folder = secrets.token_hex(8)
    aside = Aside(final, final / folder, folder)
    try:
        yield aside
    finally:
        _remove_others(final)


def _remove_others(final: StorePath) -> None:
    """Remove what is in a store's checkpoint beside what its manifest names; nothing where that cannot be read."""
    try:
        kept = {MANIFEST, read_manifest(final).head.folder} if (final / MANIFEST).exists() else set()
    except CorruptCheckpoint:
        return
    for name in final.names():
        if name not in kept:
            (final / name).remove()


def remove_checkpoint(
    directory: Place, step: int, later: Callable[[Callable[[], None]], None] = lambda remove: remove()
) -> None:
    """Remove a checkpoint so that readers never find half of it. A missing one is ignored.

    later: is given what takes long and nobody sees: files on this machine that have no step's name any more are removed.
    """
    place = place_of_step(directory, step)
    if isinstance(place, Path):
        remove_state(place, later)
        return
    (place / MANIFEST).remove()
    place.remove()


def manifest_of(directory: Place, step: int) -> Manifest:
    return read_manifest(place_of_step(directory, step))
