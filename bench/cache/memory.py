"""What a process takes: its own memory apart from pages of files, which the system may take back; and the page cache.

Sizes are in bytes.
"""

from __future__ import annotations

import os
from pathlib import Path

from recis_core.table.disk import DiskStore

FIELDS = {"anon": "RssAnon", "file": "RssFile", "peak": "VmHWM"}


class Memory:
    """The most that was seen since it was made; `rss_peak` is the system's own figure, of all of the process's time."""

    def __init__(self) -> None:
        self._before = _now()
        self._most = dict(self._before)

    def look(self) -> None:
        for name, value in _now().items():
            self._most[name] = max(self._most[name], value)

    def peaks(self) -> dict[str, int]:
        self.look()
        return {
            "anon_bytes_peak": self._most["anon"],
            "anon_bytes_grown": self._most["anon"] - self._before["anon"],
            "file_bytes_peak": self._most["file"],
            "rss_peak": self._most["peak"],
        }


def _now() -> dict[str, int]:
    return {name: 1024 * number_in("/proc/self/status", field) for name, field in FIELDS.items()}


def number_in(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise KeyError(name)


def disk_read_bytes() -> int:
    """That this process had the disk read."""
    return number_in("/proc/self/io", "read_bytes")


def drop_page_cache(store: DiskStore, folder: Path) -> None:
    """Of an open store's files, the index without a name among them."""
    store.flush()
    store._log.view.let_go()
    store._index.let_go()
    files = {path for path in folder.rglob("*") if path.is_file()}
    handles = [os.open(path, os.O_RDONLY) for path in files]
    handles += [os.dup(int(link.name)) for link in Path("/proc/self/fd").iterdir() if _lies_in(link, folder)]
    for handle in handles:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def fill_page_cache(folder: Path) -> None:
    """What was dropped comes back, or the rows of then would be read from the disk in the next warm steps, too."""
    piece = 1 << 24
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(piece):
                    pass


def _lies_in(link: Path, folder: Path) -> bool:
    try:
        return os.readlink(link).startswith(str(folder))
    except FileNotFoundError:
        return False
