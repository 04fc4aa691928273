"""What a run's training files were, so that a resumed run reads the same rows under the same numbers.

    {"files": [[name in the folder that holds all, bytes, hash], …], "test": whether their last rows are held out}

The hash is of a file's whole content up to a mebibyte; of a larger one of its end, where Parquet and ORC keep their
footers, and of samples between.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import xxhash

from recis_core.io.file_systems import opened, relative, size_of
from recis_core.io.formats import SUFFIXES
from recis_core.io.paths import expand

WHOLE = 1 << 20  # bytes up to which all are hashed
END = 1 << 18  # bytes of the end that are hashed of a larger file
SAMPLES, SAMPLE = 64, 1 << 12  # so many of so many bytes before the end

Files = list[list[Any]]


def fingerprint(data: str, *, held_out: bool) -> dict[str, Any]:
    """Of the training files, whose last rows are held out for the test, or not.

    Raises:
      FileNotFoundError: there are none. OSError: one cannot be read.
    """
    files = files_of(data)
    root = os.path.commonpath([os.path.dirname(file) or "." for file in files])
    named = [[relative(file, root), *_described(file)] for file in files]
    return {"files": named, "test": held_out}


def files_of(data: str) -> list[str]:
    """What a path, folder or glob names.

    Raises:
      FileNotFoundError: nothing. ValueError: no regular file.
    """
    return list(expand(data, SUFFIXES))


def _described(file: str) -> list[Any]:
    """[bytes, hash]"""
    digest = xxhash.xxh3_128()
    size = size_of(file)
    with opened(file) as content:
        for begin, count in _spans(size):
            digest.update(_read(content, begin, count))
    return [size, digest.hexdigest()]


def _spans(size: int) -> list[tuple[int, int]]:
    """(begin, bytes)"""
    if size <= WHOLE:
        return [(0, size)]
    before = size - END
    return [*((before * i // SAMPLES, SAMPLE) for i in range(SAMPLES)), (before, END)]


def _read(file: BinaryIO, begin: int, count: int) -> bytes:
    file.seek(begin)
    return file.read(count)


def difference(saved: dict[str, Any], mine: dict[str, Any]) -> str | None:
    """In words; None where the same rows are trained on."""
    if saved == mine:
        return None
    if saved.get("test") != mine.get("test"):
        return "the saved run held out the last rows of --data, or did not (--test-data); this one does the other"
    before, now = ({name: rest for name, *rest in each.get("files", [])} for each in (saved, mine))
    gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
    if gone or new:
        changes = [f"{_some(gone)} gone"] * bool(gone) + [f"{_some(new)} new"] * bool(new)
        return f"--data names other files than the saved run's: {', '.join(changes)}"
    changed = [name for name in now if before[name] != now[name]]
    return f"files of --data changed since: {_some(changed)}" if changed else "files of --data come in another order"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3)
