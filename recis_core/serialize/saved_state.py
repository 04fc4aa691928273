"""One directory for each state: written aside, synced, hashed, and committed by a rename.

DIR/step-00000100/manifest.json             lists the other files, with sizes and hashes, and its own hash; manifest.py
                  <name>.safetensors        tensors of one part of the state; part_file.py
                  <name>.rank-1.safetensors tensors of one rank's own part; shared_state.py
                  table.<name>.….safetensors rows of one table, in checkpoints; checkpoint/
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize.manifest import (
    MANIFEST,
    Head,
    Manifest,
    Written,
    encode_manifest,
    hash_of,
    read_manifest,
)
from recis_core.serialize.part_file import SUFFIX, Memory, created, file_name, read_part
from recis_core.serialize.part_writers import PartWriters
from recis_core.serialize.state_directory import STATE, old_of, place, states_in, step_of, step_of_name
from recis_core.serialize.store_path import Place, StorePath, place_of
from recis_core.serialize.store_states import latest_in_store
from recis_core.serialize.tree import join_tensors, split_tensors

Split = dict[str, tuple[Any, dict[str, Tensor]]]  # part: (its tree without tensors, its tensors)


def split_parts(state: Mapping[str, Any]) -> Split:
    """Raises TypeError or ValueError for what cannot be saved."""
    parts: Split = {}
    for part, tree in state.items():
        if not isinstance(part, str):
            raise TypeError(f"names of a state's parts are strings; got {part!r}.")
        file_name(part)
        tensors: dict[str, Tensor] = {}
        parts[part] = split_tensors(tree, tensors), tensors
    return parts


def write_parts(aside: Place, parts: Split) -> Written:
    """Write and sync each part's file."""
    with PartWriters(aside) as writers:
        for part, (tree, tensors) in parts.items():
            writers.write(part, tree, tensors)
    return writers.written


def commit(aside: Path, final: Path, step: int, written: Written, head: Head | None = None) -> str:
    """Write the manifest, then rename: from then on the state exists. Returns the manifest's hash."""
    digest = write_manifest(aside, step, written, head)
    place(aside, final)
    return digest


def write_manifest(directory: Place, step: int, written: Written, head: Head | None = None) -> str:
    """Write and sync the manifest; returns its hash. Raises ValueError as encode_manifest, OSError."""
    data = encode_manifest(step, written, head)
    path = directory / MANIFEST
    if isinstance(path, StorePath):
        path.put(data)
        return hash_of(data)
    with created(path) as file:
        file.write(data)
    return hash_of(data)


@overload
def latest_state(directory: Path) -> Path: ...
@overload
def latest_state(directory: str | os.PathLike[str] | Place) -> Place: ...
def latest_state(directory: str | os.PathLike[str] | Place) -> Place:
    """The state of the highest step in DIR; DIR itself, if DIR is a state. Of a URL a place in its store.

    Raises:
      FileNotFoundError: there is no state.
      CorruptCheckpoint: the newest state's manifest is missing or damaged; an older state is not used instead.
    """
    directory = place_of(directory)
    return latest_in_store(directory) if isinstance(directory, StorePath) else _latest_here(directory)


def _latest_here(directory: Path) -> Path:
    if STATE.fullmatch(directory.name) and not os.path.lexists(directory) and old_of(directory).is_dir():
        directory = old_of(directory)
    if not directory.is_dir():
        if os.path.lexists(directory):
            raise CorruptCheckpoint(f"{directory} is no directory; wanted a state's, or one of states.")
        raise FileNotFoundError(f"{directory} holds no saved state, for it is not there.")
    states = states_in(directory)
    if _is_state(directory, states):
        read_manifest(directory)
        return directory
    if not states:
        raise FileNotFoundError(f"{directory} holds no saved state; wanted step-*/{MANIFEST}, as --save writes it.")
    try:
        SavedState(states[-1])
    except CorruptCheckpoint as error:
        older = f"name an older one ({states[-2]}), or remove it" if states[1:] else "remove it to begin anew"
        raise CorruptCheckpoint(f"{error} It is the newest state of {directory}: {older}.") from error
    return states[-1]


def _is_state(directory: Path, states: list[Path]) -> bool:
    """Whether the directory is a state, or the remains of one, and no directory of states."""
    if os.path.lexists(directory / MANIFEST):
        return True
    return not states and (step_of(directory) is not None or any(n.endswith(SUFFIX) for n in os.listdir(directory)))


class SavedState(Mapping[str, Any]):
    """{part: saved value} of a state's directory, or of one at a URL. Reading a part reads its file and checks the hash.

    Raises:
      CorruptCheckpoint: a file is missing or damaged, or has another format.
    """

    def __init__(self, path: str | os.PathLike[str] | Place) -> None:
        self.path = place_of(path)
        self._manifest = read_manifest(self.path)
        self.step = self._manifest.step
        if step_of_name(self.path.name) not in (None, self.step):
            raise CorruptCheckpoint(
                f"{self.path / MANIFEST} is of step {self.step}, which its directory's name is not."
            )

    @property
    def has_tables(self) -> bool:
        """Whether rows of tables have files of their own, as in checkpoints; else they are in parts of storages."""
        return bool(self._manifest.head.tables)

    def file_of(self, part: str) -> Place:
        return file_in(self.path, self._manifest, part)

    def __getitem__(self, part: str) -> Any:
        return value_of(self.path, self._manifest, part)

    def __iter__(self) -> Iterator[str]:
        return iter(self._manifest.parts)

    def __len__(self) -> int:
        return len(self._manifest.parts)


def value_of(directory: Place, manifest: Manifest, part: str, memory: Memory | None = None) -> Any:
    """A part's saved value; memory: see read_part. Raises KeyError, or CorruptCheckpoint if its file is missing or damaged."""
    saved = manifest.parts[part]
    tensors = read_part(file_in(directory, manifest, part), saved.tensors, saved.hashes, memory)
    return join_tensors(saved.tree, tensors)


def file_in(directory: Place, manifest: Manifest, part: str) -> Place:
    folder = manifest.head.folder
    return (directory / folder if folder else directory) / file_name(part)


def load_state(path: str | os.PathLike[str] | Place) -> dict[str, Any]:
    """All parts of a saved state, {part: saved value}.

    Raises:
      CorruptCheckpoint: a file is missing or damaged, or has another format.
    """
    return dict(SavedState(path))
