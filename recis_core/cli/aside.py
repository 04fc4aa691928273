"""A file or folder written under another name first: it gets its own name when it is whole, or is removed."""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recis_core.cli import stopping
from recis_core.io.remote_output import put_at_url
from recis_core.urls import is_url

UNLINKED = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # of file systems without hard links


@contextmanager
def beside(out: str | os.PathLike[str]) -> Iterator[Path]:
    """A path in the same folder with the same ending; removed at the end, also where a signal ends the process."""
    path = Path(out)
    aside, unfinished = path.with_name(f".{os.getpid()}.writing.{path.name}"), stopping.current().unfinished
    unfinished.add(str(aside))
    try:
        yield aside
    finally:
        remove(aside)
        unfinished.discard(str(aside))


def local_of(out: str) -> str:
    """The path beside which all is written first: of a URL one in the folder of temporary files, TMPDIR."""
    return os.path.join(tempfile.gettempdir(), posixpath.basename(out.rstrip("/"))) if is_url(out) else out


def remove(path: str | os.PathLike[str]) -> None:
    """A file, or a folder with what is in it; it may be gone."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.unlink(path)


def put_out(aside: Path, out: str) -> None:
    """What is whole goes to a path or a URL. Raises FileExistsError where something is there by now, OSError."""
    if is_url(out):
        put_at_url(aside, out)
    else:
        put(aside, Path(out))


def put(aside: Path, path: Path) -> None:
    """Gives it its name. Raises FileExistsError where something else has it by now."""
    if aside.is_dir():
        if os.path.lexists(path):  # a rename would replace an empty folder
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        aside.rename(path)
        return
    try:
        os.link(aside, path)  # which replaces no file, as a rename would
    except OSError as error:
        if error.errno not in UNLINKED or path.exists():
            raise
        aside.replace(path)
