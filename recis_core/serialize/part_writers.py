"""Parts of a state on their way to files: threads hash, write and sync some while the next ones are made."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from types import TracebackType
from typing import Any

from torch import Tensor

from recis_core.serialize.manifest import Written
from recis_core.serialize.part_file import FileHashes, Place, file_name, write_part

AT_ONCE = 3  # parts that wait or are written: most of their time threads wait for the disk


class PartWriters:
    """Writes parts into one directory.

        with PartWriters(place) as parts:
            parts.write("dense", tree, tensors)
        parts.written                               all are durable

    The block ends when no thread writes any more; it raises the first error of a part.
    """

    def __init__(self, place: Place) -> None:
        self.place, self.written = place, Written()
        self._threads = ThreadPoolExecutor(AT_ONCE, "recis-write")
        self._coming: dict[str, Future[FileHashes]] = {}

    def write(self, name: str, tree: Any, tensors: Mapping[str, Tensor]) -> None:
        """Write a part, as split_tensors gives it; waits while AT_ONCE are being written. Raises an earlier part's error."""
        while len(self._coming) >= AT_ONCE:
            self._take(wait(self._coming.values(), return_when=FIRST_COMPLETED).done)
        self.written[name] = {"tree": tree}  # now, for a manifest lists parts in the order in which they were given
        self._coming[name] = self._threads.submit(write_part, self.place / file_name(name), tensors)

    def _take(self, done: set[Future[FileHashes]]) -> None:
        for name in [name for name, each in self._coming.items() if each in done]:
            self.written[name] |= asdict(self._coming.pop(name).result())

    def __enter__(self) -> PartWriters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            self._take(set(self._coming.values()))
