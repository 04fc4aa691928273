"""What a directory holds since its last flush: written aside, synced, and committed by a rename.

DIR/manifest.json            format, tag, bytes of a row, segments with committed rows, the caller's numbers, and the xxh3 of
                             all
    lock                     held by the process that has it open
    reserve                  space for the next manifest on a full disk
    segment-00000001.rows    see segment.py
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from backends.errors import CorruptStorage, StorageInUse
from recis_core.table.disk.disk_space import room_for, sync_directory

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
        """From the rename on, the directory holds this.

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
                aside.rename(directory / NAME)
                if sync:
                    sync_directory(directory)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def _write(path: Path, text: str, sync: bool) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def _digest(facts: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(facts, sort_keys=True).encode())


def read_manifest(directory: Path) -> Manifest:
    """
    Raises:
      CorruptStorage: it is damaged or of another format.
    """
    path = directory / NAME
    try:
        facts = json.loads(path.read_bytes())
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


_WAY_OUT = "Restore the directory from a checkpoint, or name an empty one."


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"segment-{number:08d}.rows"


def open_directory(directory: Path, tag: str, row_bytes: int, *, sync: bool) -> Manifest:
    """Its manifest, a first one if it is new. Files that the manifest does not name are removed.

    Raises:
      CorruptStorage: it is damaged, or holds other rows.
    """
    segments = sorted(directory.glob("segment-*.rows"))
    if not (directory / NAME).exists():
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
        path.unlink(missing_ok=True)
    return manifest


def lock_directory(directory: Path) -> int:
    """A handle that keeps other processes, and this one, from opening the directory again until it is closed.

    Raises:
      StorageInUse: somebody has it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(handle, 32, 0).decode(errors="replace")
        os.close(handle)
        raise StorageInUse(
            f"{directory} is open in process {owner or '?'}. Close it there, or name another directory."
        ) from error
    with suppress(OSError):  # the number is a courtesy, which a full disk may refuse
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle
