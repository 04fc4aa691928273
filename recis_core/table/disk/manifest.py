"""What a directory holds since its last flush: written aside, synced, and committed by a rename.

DIR/manifest.json            format, tag, bytes of a row, segments with committed rows, the caller's numbers, and the xxh3 of
                             all
    lock                     held by the process that has it open
    reserve                  space for the next manifest on a full disk
    segment-00000001.rows    see segment.py
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from recis_core.backends.errors import CorruptStorage, NotAFile
from recis_core.durable import open_regular, sync_directory
from recis_core.table.disk.disk_space import remove, room_for, write_at

FORMAT = 2  # 1 had a row's check in its key
NAME = "manifest.json"
ASIDE = "manifest.json.writing"


@dataclass(frozen=True)
class Committed:
    """A segment: its first `rows` rows count, and their keys have this xxh3."""

    number: int
    rows: int
    digest: int


@dataclass(frozen=True)
class Manifest:
    tag: str
    row_bytes: int
    next_number: int = 1
    segments: list[Committed] = field(default_factory=list)
    live: int = 0
    """Rows that keys lead to: how large an index to make."""
    numbers: dict[str, int] = field(default_factory=dict)
    """The caller's, of the time of this flush; none in manifests from before there were any."""

    def commit(self, directory: Path, *, sync: bool) -> None:
        """Write the manifest: once its rename is done, the directory holds this state.

        Raises:
          StorageFull: it holds what it held.
        """
        facts = {"format": FORMAT, **asdict(self)}
        text = json.dumps({**facts, "xxh3": _digest(facts)})
        aside = directory / ASIDE
        try:
            with room_for(aside, len(text)):
                _write(aside, text, sync)
                if sync:
                    sync_directory(directory)  # the segments' names
                _refuse_directory(directory / NAME)
                aside.rename(directory / NAME)
                if sync:
                    sync_directory(directory)
        except BaseException:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise


def _write(path: Path, text: str, sync: bool) -> None:
    remove(path)
    handle = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        write_at(path, handle, np.frombuffer(text.encode(), np.uint8), 0)
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_directory(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        raise NotAFile(f"{path} is a directory; wanted a regular file, or none. Remove it.")


def _digest(facts: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(facts, sort_keys=True).encode())


def read_manifest(directory: Path) -> Manifest:
    """
    Raises:
      CorruptStorage: it is damaged or of another format. NotAFile: it is no file.
    """
    path = directory / NAME
    try:
        facts = json.loads(_read(path))
        digest = facts.pop("xxh3")
        found = _digest(facts)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CorruptStorage(f"{path} cannot be read ({error!r}). {_WAY_OUT}") from error
    if found != digest:
        raise CorruptStorage(f"{path} has xxh3 {found}; it says {digest}. It was damaged. {_WAY_OUT}")
    version = facts.pop("format")
    if version != FORMAT:
        raise CorruptStorage(f"{path} is of format {version}; this recis-core reads {FORMAT}. {_WAY_OUT}")
    return Manifest(**{**facts, "segments": [Committed(**segment) for segment in facts["segments"]]})


def _read(path: Path) -> bytes:
    handle = open_regular(path, os.O_RDONLY)
    try:
        return os.pread(handle, os.fstat(handle).st_size, 0)
    finally:
        os.close(handle)


_WAY_OUT = "Restore the directory from a checkpoint, or name an empty one."


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"segment-{number:08d}.rows"


def open_directory(directory: Path, tag: str, row_bytes: int, *, sync: bool) -> Manifest:
    """The directory's manifest, a first one if it is new. Files that the manifest does not name are removed.

    Raises:
      CorruptStorage: it is damaged, or holds other rows.
    """
    segments = sorted(directory.glob("segment-*.rows"))
    if not os.path.lexists(directory / NAME):
        if segments:
            raise CorruptStorage(f"{directory} has {len(segments)} segments and no {NAME}. {_WAY_OUT}")
        Manifest(tag, row_bytes).commit(directory, sync=sync)
    manifest = read_manifest(directory)
    if (manifest.tag, manifest.row_bytes) != (tag, row_bytes):
        raise CorruptStorage(
            f"{directory} holds rows of {manifest.row_bytes} bytes of {manifest.tag!r}; rows of {row_bytes} bytes of "
            f"{tag!r} were wanted. Name another directory, or delete this one if its rows are not needed."
        )
    named = {segment_path(directory, segment.number) for segment in manifest.segments}
    for path in [directory / ASIDE, *(path for path in segments if path not in named)]:
        remove(path)
    return manifest
