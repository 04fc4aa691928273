"""A file that is written beside the one it is to become, and is gone unless it became that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recis_core.cli import stopping


@contextmanager
def beside(out: str | os.PathLike[str]) -> Iterator[Path]:
    """A name in the same folder, of the same ending. A signal leaves nothing of it, however it ends the process."""
    path = Path(out)
    aside, unfinished = path.with_name(f".{os.getpid()}.writing.{path.name}"), stopping.current().unfinished
    unfinished.add(str(aside))
    try:
        yield aside
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()
        unfinished.discard(str(aside))
