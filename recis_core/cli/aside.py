"""A file written under another name first: it gets its own name when it is whole, or is removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recis_core.cli import stopping


@contextmanager
def beside(out: str | os.PathLike[str]) -> Iterator[Path]:
    """A path in the same folder with the same ending; removed at the end, also where a signal ends the process."""
    path = Path(out)
    aside, unfinished = path.with_name(f".{os.getpid()}.writing.{path.name}"), stopping.current().unfinished
    unfinished.add(str(aside))
    try:
        yield aside
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()
        unfinished.discard(str(aside))
