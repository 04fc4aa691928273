"""Parts of a state on their way to files: threads hash, write and sync some while the next ones are made."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from types import TracebackType
from typing import Any

from torch import Tensor

from recis_core.serialize.manifest import Written
from recis_core.serialize.part_file import FileHashes, file_name, write_part
from recis_core.serialize.store_path import Place
from recis_core.uninterrupted import STEP, deliver_waiting, uninterrupted

AT_ONCE = 3  # parts that wait or are written: most of their time threads wait for the disk


class PartWriters:
    """Writes parts into one directory.

        with PartWriters(place) as parts:
            parts.write("dense", tree, tensors)
        parts.written                               all are durable

    When the block ends no thread writes any more, whatever ended it; it raises the first error of a part. Signals come where
    it waits for a part, or begins one: a thread that went on would write into the next save's directory.
    """

    def __init__(self, place: Place) -> None:
        self.place, self.written = place, Written()
        self._threads = ThreadPoolExecutor(AT_ONCE, "recis-write")
        self._coming: dict[str, Future[FileHashes]] = {}
        self._section, self._given_up = uninterrupted(), threading.Event()

    def write(self, name: str, tree: Any, tensors: Mapping[str, Tensor]) -> None:
        """Write a part, as split_tensors gives it; waits while AT_ONCE are being written. Raises an earlier part's error."""
        deliver_waiting()
        while len(self._coming) >= AT_ONCE:
            self._take_first()
        self.written[name] = {"tree": tree}  # now, for a manifest lists parts in the order in which they were given
        self._coming[name] = self._threads.submit(
            write_part, self.place / file_name(name), tensors, self._given_up.is_set
        )

    def _take_first(self) -> None:
        name, first = next(iter(self._coming.items()))
        while not wait([first], STEP).done:
            deliver_waiting()
        del self._coming[name]
        self.written[name] |= asdict(first.result())

    def __enter__(self) -> PartWriters:
        self._section.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._coming:
                self._take_first()
        finally:
            self._given_up.set()
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._section.__exit__(kind, error, trace)
