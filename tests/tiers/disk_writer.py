"""A process that writes, erases, flushes and compacts by a known plan, until it is killed. See test_disk_kill.py.

It forks a writer for each line of stdin, a Task as JSON, for imports take longer than what is tested. Lines out:
    pid 123       the writer
    flushed 7     step 7 and all before it are kept
    ended
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recis_core.table.disk import directory_lock, disk_index, disk_space, disk_store, log, manifest
from recis_core.table.disk.segment import Segment
from tests.tiers.disk_stores import Key, arrays, open_store, rows_of

State = dict[Key, bytes]


@dataclass(frozen=True)
class Task:
    path: str
    first: int
    """Step to go on from."""
    point: str | None = None
    """Of POINTS: where it kills itself"""
    call: int = 0
    """at which call."""


def plan(step: int) -> tuple[list[Key], list[Key]]:
    """Keys to write, keys to erase. A step in three flushes."""
    random = np.random.default_rng(step)
    keys = [(int(i) % 2, int(i) * 7 - 500) for i in random.choice(300, 70, replace=False)]
    return keys[:50], keys[30:]


def apply(state: State, step: int) -> None:
    written, erased = plan(step)
    state |= {key: row.tobytes() for key, row in zip(written, rows_of(written, step), strict=True)}
    for key in erased:
        state.pop(key, None)


def flushes(step: int) -> bool:
    return step % 3 == 2


def numbers_of(step: int) -> dict[str, int]:
    """What the flush of a step leaves: compact() keeps those of the flush before."""
    return {"step": step - 3 if step % 15 == 14 else step} if step >= 0 else {}


def write(task: Task) -> None:
    if task.point is not None:
        _die_at(task.point, task.call)
    store = open_store("disk", Path(task.path), sync=task.first % 4 == 0)
    step = task.first
    while True:
        written, erased = plan(step)
        store.write(*arrays(written), rows_of(written, step))
        store.erase(*arrays(erased))
        if flushes(step):
            store.compact() if step % 15 == 14 else store.flush(numbers_of(step))
            _say(f"flushed {step}")
            if step % 21 == 20:
                store.close()
                store = open_store("disk", Path(task.path), sync=task.first % 4 == 0)
        step += 1


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _half_written(path: Path, text: str, sync: bool) -> None:
    path.write_text(text[: len(text) // 2])
    _die()


def _half_put(segment: Segment, keys: np.ndarray, rows: np.ndarray | None) -> None:
    _whole_put(segment, keys[: len(keys) // 2], None if rows is None else rows[: len(keys) // 2])
    _die()


_whole_put = Segment.put
POINTS: dict[str, tuple[Any, str, Callable[..., None]]] = {
    "a segment made": (Segment, "create", _die),
    "half an append": (Segment, "put", _half_put),
    "an append told to the index": (Segment, "accept", _die),
    "a segment synced": (disk_store, "sync_file", _die),
    "half a manifest": (manifest, "_write", _half_written),
    "a manifest renamed": (Path, "rename", _die),
    "a directory synced": (manifest, "sync_directory", _die),
    "a segment compacted": (log.Log, "condemn", _die),
    "a file deleted": (Segment, "delete", _die),
    "an index about to be told": (disk_index.DiskIndex, "apply", _die),
    "a file about to be closed": (Segment, "release", _die),
    "a reserve about to be filled": (disk_space.Reserve, "fill", _die),
    "a lock about to be released": (directory_lock.DirectoryLock, "release", _die),
}


def _die_at(point: str, call: int) -> None:
    """In place of the call-th call of the point, end."""
    owner, name, end = POINTS[point]
    original, calls = getattr(owner, name), [0]

    def replaced(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        return (end if calls[0] > call else original)(*args, **options)

    setattr(owner, name, replaced)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:  # loads what is compiled
        store = open_store("disk", Path(folder))
        store.write(*arrays([(0, 1)]), rows_of([(0, 1)], 0))
        store.read(*arrays([(0, 1)]))
        store.close()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                _say(f"pid {os.getpid()}")
                write(Task(**json.loads(line)))
            except BaseException as error:
                _say(f"error {error!r}")
            os._exit(1)
        os.waitpid(pid, 0)
        _say("ended")


if __name__ == "__main__":
    main()


__all__ = ["POINTS", "State", "Task", "apply", "asdict", "flushes", "numbers_of"]
