"""What tells whether a file of a data set changed since a position was saved."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import xxhash

from recis_core.io.file_systems import opened

WHOLE = 4 << 20  # bytes: of a larger file samples are hashed
SAMPLE, SAMPLES = 64 << 10, 4


class FileMark(NamedTuple):
    """rows, bytes and a hash: of the whole content up to 4 MiB; of a larger file of 4 spread samples, the footer in the last."""

    path: str
    rows: int
    size: int
    content: str


def mark_of(path: str, rows: int) -> FileMark:
    """Raises OSError, naming the file."""
    with opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        found = xxhash.xxh3_64()
        step = (size - SAMPLE) / (SAMPLES - 1)
        for at in [0] if size <= WHOLE else [round(k * step) for k in range(SAMPLES)]:
            file.seek(at)
            found.update(file.read(size if size <= WHOLE else SAMPLE))
    return FileMark(path, rows, size, found.hexdigest())


def how_changed(before: FileMark, now: FileMark) -> str | None:
    if before.rows != now.rows:
        return f"{'lost' if now.rows < before.rows else 'got'} rows: it has {now.rows}, and had {before.rows}"
    if before.size != now.size:
        return f"was rewritten: it has {now.size} bytes, and had {before.size}"
    return None if before.content == now.content else "was rewritten: it holds other bytes"


def listed(marks: Sequence[Sequence[FileMark]]) -> dict[str, object]:
    """Groups of files for a state: the folder of all, and by group the name, rows, bytes and hash of each file."""
    folder = folder_of([mark.path for group in marks for mark in group])
    return {"folder": folder, "groups": [[[m.path[len(folder) :], *m[1:]] for m in group] for group in marks]}


def folder_of(paths: Sequence[str]) -> str:
    """The folders that all names begin with, "" if there are none."""
    if not paths:
        return ""
    low, high = min(paths), max(paths)  # what these begin with alike, all begin with
    alike = next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[: low.rfind("/", 0, alike) + 1]


@dataclass(frozen=True)
class SavedOrder:
    """Files in the order of a position, for its epoch: [] for the data set's own."""

    epoch: int = 0
    groups: list[list[str]] = field(default_factory=list)

    def groups_in(self, epoch: int) -> list[list[str]]:
        return self.groups if epoch == self.epoch else []


@dataclass(frozen=True)
class SavedFiles:
    """Files of a position that are there, unchanged. groups: by the time they came."""

    groups: list[list[str]]

    @property
    def paths(self) -> list[str]:
        return [path for group in self.groups for path in group]

    def came(self, rows: dict[str, int]) -> list[str]:
        """Files that are there now and were not."""
        before = set(self.paths)
        return [path for path in rows if path not in before]


def saved_files(states: list[dict[str, Any]], rows: dict[str, int]) -> SavedFiles:
    """The files of workers' positions among {path: rows} of a data set, which may have moved to another folder.

    Raises:
      ValueError: positions are of different files; or a file is gone, has other rows, or other bytes: says which and how.
    """
    saved = states[0]["files"]
    if any(state["files"] != saved for state in states):
        raise ValueError(
            "positions must be of the same files; these are of different ones. Load those of one run's workers."
        )
    if isinstance(saved, str):
        return _of_digest(saved, rows)
    here, groups = folder_of(list(rows)), []
    for group in saved["groups"]:
        marks = [FileMark(saved["folder"] + name, *mark) for name, *mark in group]
        names = [mark.path[len(saved["folder"]) :] for mark in marks]
        found = [_there(mark.path, here + name, rows) for mark, name in zip(marks, names, strict=True)]
        for mark, path in zip(marks, found, strict=True):
            _require_unchanged(mark, path, rows)
        groups.append(found)
    return SavedFiles(groups)


def _there(before: str, moved: str, rows: dict[str, int]) -> str:
    return before if before in rows or moved not in rows else moved


def _require_unchanged(before: FileMark, path: str, rows: dict[str, int]) -> None:
    how = how_changed(before, mark_of(path, rows[path])) if path in rows else "is gone"
    if how is not None:
        raise ValueError(
            f"{path} {how}, since the position was saved: it would mean other rows. Bring the file back as it was, or begin "
            "the epoch anew."
        )


def _of_digest(digest: str, rows: dict[str, int]) -> SavedFiles:
    """Positions before version 2 know their files by one hash of names and rows."""
    listing = "\n".join(f"{os.path.basename(file)}:{count}" for file, count in rows.items())
    mine = hashlib.sha256(listing.encode()).hexdigest()[:16]
    if digest != mine:
        raise ValueError(
            f"files must be {digest!r}, as when the position was saved; got {mine!r}: a file came, is gone, or has other rows. "
            "A position of before does not say which."
        )
    return SavedFiles([list(rows)])
