"""Files of this machine put at a URL, in any file system that fsspec opens: all of them, or none."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from recis_core.backends.errors import RecisError
from recis_core.io.file_systems import file_system_of, naming

LOG = logging.getLogger(__name__)
CHUNK = 1 << 22  # bytes of a write


def check_url_is_free(url: str) -> None:
    """Raises ValueError where something has this name, or the URL has no file system of its own (simplecache::s3://…)."""
    if "::" in url:
        raise ValueError(f"{url} is written through another file system; give the URL behind the last ::.")
    if _system(url).exists(url):
        raise ValueError(f"{url} is there already, and is not replaced. Name another, or remove it.")


def put_at_url(local: Path, url: str) -> None:
    """Copy a file, or a folder of files, to a URL, and compare sizes. What is there after an error is removed.

    All is written in one of fsspec's transactions: the file systems that have them (s3, gs, memory …) show no file before
    all are whole; on others a reader may see the first files while the last are written.

    Raises:
      FileExistsError: something has the name. OSError: the file system's. RecisError: a file has another size there.
    """
    fs = _system(url)
    if fs.exists(url):
        raise FileExistsError(f"{url} is there already, and is not replaced.")
    try:
        with naming(url):
            _copy(fs, local, url)
    except BaseException:
        _remove(fs, url, local.is_dir())
        raise


def _system(url: str) -> Any:
    with naming(url):
        return file_system_of(url).fs  # type: ignore[attr-defined]  # of a URL it is fsspec's


def _copy(fs: Any, local: Path, url: str) -> None:
    files = {url: local}
    if local.is_dir():
        files = {f"{url.rstrip('/')}/{file.name}": file for file in sorted(local.iterdir())}
        fs.makedirs(url, exist_ok=True)
    with fs.transaction:
        for name, file in files.items():
            with file.open("rb") as source, fs.open(name, "wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK)
    fs.invalidate_cache()
    for name, file in files.items():
        size, wanted = int(fs.size(name)), file.stat().st_size
        if size != wanted:
            raise RecisError(f"{name} has {size:,} bytes after it was written, instead of {wanted:,}: nothing is kept.")


def _remove(fs: Any, url: str, folder: bool) -> None:
    """An error here is told, and leaves the first one to be raised."""
    try:
        if fs.exists(url):
            fs.rm(url, recursive=folder)
    except Exception as error:
        LOG.warning("%s is unfinished and could not be removed (%s); remove it.", url, error)
