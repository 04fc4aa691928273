"""Where a table's rows lie on disk: a directory of its own under CacheConfig.disk.

Scratch unless it is to be kept: then another name each time, removed when the store is closed or this process ends. Scratch
is somebody's as long as its lock is held; a process id says nothing, for containers that share the directory have their own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from backends.errors import StorageInUse
from recis_core.table.tiers.cache_config import CacheConfig
from recis_core.table.tiers.row_format import RowFormat

if TYPE_CHECKING:
    from recis_core.table.disk import DiskStore

SCRATCH = ".scratch"


def open_disk(config: CacheConfig, owner: str, row_format: RowFormat, sharing: int = 1) -> DiskStore:
    """The disk tier of a table whose rows are as the format says.

    owner: tells apart tables and ranks that share one directory.
    sharing: tables that share the config's bytes. An index has entries for rows, however often they are used, and one that
      went to its file stays there; so its bytes are divided equally, once.

    Raises:
      CorruptStorage: what is kept there has rows of another format, or is damaged.
    """
    from recis_core.table.disk.disk_store import INDEX_BYTES, MAPPED_BYTES, DiskStore

    name = f"table-{xxhash.xxh3_64_hexdigest(f'{owner};{row_format.spec.uids}'.encode())}"
    root = Path(str(config.disk))
    index_bytes = INDEX_BYTES if config.disk_index_bytes is None else config.disk_index_bytes // sharing
    mapped_bytes = MAPPED_BYTES if config.disk_mapped_bytes is None else config.disk_mapped_bytes // sharing
    open_store = partial(
        DiskStore,
        row_bytes=row_format.row_bytes,
        tag=row_format.tag,
        index_bytes=index_bytes,
        mapped_bytes=mapped_bytes,
    )
    if config.keep:
        return open_store(root / name)
    with _alone_in(root):
        remove_abandoned(root)
        return open_store(root / f"{name}-{os.getpid()}-{os.urandom(4).hex()}{SCRATCH}", sync=False)


def check_place(config: CacheConfig) -> None:
    """Whether rows may be written where the config says, if it says; its directory is made.

    Raises:
      ValueError: they may not.
    """
    if config.disk is None:
        return
    from recis_core.table.disk.disk_space import FULL

    probe = Path(config.disk) / f".probe-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        probe.mkdir(parents=True)
        probe.rmdir()
    except OSError as error:
        if error.errno not in FULL:  # a full disk is there, and raises StorageFull when rows need it
            raise ValueError(
                f"disk={str(config.disk)!r} must be a directory that can be made and written to; the system says: "
                f"{error.strerror}. Name another one."
            ) from error


def close_disk(store: DiskStore) -> None:
    """Close it: what is kept is as the last flush left it, scratch is removed."""
    store.close(flush=False)
    if store.path.name.endswith(SCRATCH):
        shutil.rmtree(store.path, ignore_errors=True)


def remove_abandoned(root: Path) -> None:
    """Scratch that no process holds."""
    from recis_core.table.disk.manifest import lock_directory

    for path in root.glob(f"table-*{SCRATCH}"):
        with suppress(StorageInUse, OSError):  # somebody's, or another user's
            lock = lock_directory(path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


@contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Nobody else makes or looks for scratch here, so that none is met between its making and its locking."""
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # a process forked meanwhile has the handle, too
        os.close(handle)
