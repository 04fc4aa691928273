"""Where a table's rows are on disk: in a directory of their own under CacheConfig.disk if they are kept, else in nameless files.

A nameless file ends with its last handle, so scratch outlives no process, whatever signal ends it, and no other process can
open, cut or remove it. Versions before this one gave scratch a directory; one that nobody holds is removed.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from recis_core.backends.errors import NotAFile, StorageInUse
from recis_core.durable import make_directory
from recis_core.options.cache_config import CacheConfig
from recis_core.table.tiers.row_format import RowFormat

if TYPE_CHECKING:
    from recis_core.table.disk import DiskStore

SCRATCH = ".scratch"


def open_disk(config: CacheConfig, owner: str, row_format: RowFormat, sharing: int = 1) -> DiskStore:
    """The disk tier of a table, for rows of this format.

    owner: names the table and rank among those that share a directory.
    sharing: how many tables share the config's bytes. Each gets an equal part, once: an index has an entry a row, however
      often the row is used, and an index that went to its file stays there.

    Raises:
      CorruptStorage: what is kept there has rows of another format, or is damaged.
    """
    from recis_core.table.disk.disk_store import INDEX_BYTES, MAPPED_BYTES, DiskStore

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
        name = f"table-{xxhash.xxh3_64_hexdigest(f'{owner};{row_format.spec.uids}'.encode())}"
        return open_store(root / name)
    if not os.path.lexists(root):
        make_directory(root)
    remove_abandoned(root)
    return open_store(root, keep=False)


def check_place(config: CacheConfig) -> None:
    """Raise unless rows can be written to the config's disk, if it has one; its directory is made.

    Raises:
      ValueError: they cannot.
    """
    if config.disk is None:
        return
    from recis_core.table.disk.disk_space import FULL

    probe = Path(config.disk) / f".probe-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        if not os.path.lexists(probe.parent):
            make_directory(probe.parent)
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        if error.errno not in FULL:  # a full disk raises StorageFull when rows need it
            raise ValueError(
                f"disk={str(config.disk)!r} must be a directory that can be made and written to; the system says: "
                f"{error.strerror}. Name another one."
            ) from error


def remove_abandoned(root: Path) -> None:
    """Scratch of earlier versions that no process holds."""
    from recis_core.table.disk.directory_lock import DirectoryLock

    for path in root.glob(f"table-*{SCRATCH}"):
        with suppress(StorageInUse, NotAFile, OSError):  # in use, or another user's
            lock = DirectoryLock(path)
            shutil.rmtree(path, ignore_errors=True)
            lock.release()
