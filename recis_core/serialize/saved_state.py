"""One directory a state: written aside, synced, hashed, and committed by a rename.

DIR/step-00000100/manifest.json             version, tree, and the xxh3 hash of each file
                  <name>.safetensors        tensors of one part of the state
                  <name>.rank-1.safetensors of a part that each rank has its own of; see shared_state.py
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor

from backends import placement
from backends.errors import CorruptCheckpoint
from recis_core.durable import sync_directory
from recis_core.serialize.tree import join_tensors, split_tensors

FORMAT = 1
MANIFEST = "manifest.json"

Written = dict[str, list[Any]]  # part: its tree and its file's hash, as JSON values


def save_state(directory: str | Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write `state`, {part: nested dicts, lists, scalars and tensors}; whole or not at all.

    Returns:
      its directory, DIR/step-…; one that is there already is replaced.
    """
    final = state_path(directory, step)
    aside = make_aside(final)
    commit(aside, final, step, write_parts(aside, state))
    return final


def state_path(directory: str | Path, step: int) -> Path:
    return Path(directory) / f"step-{step:08d}"


def aside_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.writing")


def make_aside(final: Path) -> Path:
    """An empty directory to write the state in."""
    aside = aside_of(final)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    return aside


def write_parts(aside: Path, state: Mapping[str, Any]) -> Written:
    """Each part's file, synced."""
    written: Written = {}
    for part, tree in state.items():
        tensors: dict[str, Tensor] = {}
        split = split_tensors(tree, tensors)
        save_file(tensors, aside / f"{part}.safetensors")
        written[part] = [split, _synced_hash(aside / f"{part}.safetensors")]
    return written


def commit(aside: Path, final: Path, step: int, written: Written) -> None:
    """Say what was written, and rename: from then on the state is there."""
    parts = {part: tree for part, (tree, _) in written.items()}
    hashes = {part: digest for part, (_, digest) in written.items()}
    manifest = {"format": FORMAT, "placement": placement.VERSION, "step": step, "parts": parts, "hashes": hashes}
    (aside / MANIFEST).write_text(json.dumps(manifest))
    _synced_hash(aside / MANIFEST)
    sync_directory(aside)
    if final.exists():
        # A directory cannot be replaced by rename, so the old one steps aside first; either is whole.
        old = final.with_name(f".{final.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    aside.rename(final)
    sync_directory(final.parent)
    shutil.rmtree(final.with_name(f".{final.name}.old"), ignore_errors=True)


def _synced_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _hash(path)


def _hash(path: Path) -> str:
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def latest_state(directory: str | Path) -> Path:
    """The state of the highest step in DIR; DIR itself, if it is one.

    Raises:
      FileNotFoundError: there is none.
    """
    directory = Path(directory)
    if (directory / MANIFEST).exists():
        return directory
    states = sorted(path for path in directory.glob("step-*") if (path / MANIFEST).exists())
    if not states:
        raise FileNotFoundError(f"{directory} holds no saved state; wanted step-*/{MANIFEST}, as --save writes it.")
    return states[-1]


class SavedState(Mapping[str, Any]):
    """{part: what was saved} of a state's directory. A part is read, and its hash checked, when it is asked for.

    Raises:
      CorruptCheckpoint: a file is missing or damaged, or the format is another.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._manifest = _read_manifest(self.path)

    def __getitem__(self, part: str) -> Any:
        tree = self._manifest["parts"][part]
        file = self.path / f"{part}.safetensors"
        if not file.exists():
            raise CorruptCheckpoint(f"{self.path} lacks {file.name}, which its manifest lists.")
        found = _hash(file)
        if found != self._manifest["hashes"][part]:
            raise CorruptCheckpoint(f"{file} has hash {found}; its manifest says {self._manifest['hashes'][part]}.")
        return join_tensors(tree, load_file(file))

    def __iter__(self) -> Iterator[str]:
        return iter(self._manifest["parts"])

    def __len__(self) -> int:
        return len(self._manifest["parts"])


def load_state(path: str | Path) -> dict[str, Any]:
    """{part: what save_state was given}, all of it.

    Raises:
      CorruptCheckpoint: a file is missing or damaged, or the format is another.
    """
    return dict(SavedState(path))


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise CorruptCheckpoint(f"{path / MANIFEST} cannot be read: {error}") from error
    wanted = (FORMAT, placement.VERSION)
    found = (manifest.get("format"), manifest.get("placement"))
    if found != wanted:
        raise CorruptCheckpoint(f"{path} has (format, placement) versions {found}; this recis-core reads {wanted}.")
    return dict(manifest)
