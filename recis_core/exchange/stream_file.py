"""A stream in a file: frames one after another, appended a version at a time."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from backends.errors import PacketError
from recis_core.exchange.authentication import Seal
from recis_core.exchange.delta_writer import Position
from recis_core.exchange.frame import PREAMBLE_BYTES, check_beginning, read_preamble
from recis_core.exchange.packet_bytes import read_header
from recis_core.exchange.packet_header import PacketHeader

FRAME_LIMIT = 1 << 30
NAP = 0.01
_log = logging.getLogger(__name__)


class FrameFile:
    """Frames and the HMACs behind them, read by where they begin."""

    def __init__(self, file: BinaryIO, seal: Seal) -> None:
        self._file, self._seal = file, seal

    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def header_at(self, at: int) -> tuple[PacketHeader, int] | None:
        """(header, where the frame ends), or None where the frame is not whole yet.

        Raises:
          PacketError: no intact preamble and header are here.
        """
        size = self.size()
        try:
            if size - at < PREAMBLE_BYTES:
                check_beginning(self._bytes(at, size - at))
                return None
            preamble = read_preamble(self._bytes(at, PREAMBLE_BYTES))
            end = at + preamble.total + self._seal.tag_bytes
            if end > size:
                return None
            return read_header(self._bytes(at, PREAMBLE_BYTES + preamble.header_length)), end
        except PacketError as error:
            raise PacketError(f"{self._file.name}, byte {at}: {error}") from error

    def frame(self, at: int, end: int) -> bytes:
        """A whole frame, without its HMAC, which is checked."""
        if end - at > FRAME_LIMIT:
            raise PacketError(f"a frame may have {FRAME_LIMIT} bytes; the one at byte {at} has {end - at}.")
        body = self._bytes(at, end - at - self._seal.tag_bytes)
        self._seal.check(body, self._bytes(end - self._seal.tag_bytes, self._seal.tag_bytes))
        return body

    def commit_after(self, at: int) -> tuple[PacketHeader, int] | None:
        """(header, end) of the next commit from `at` on; None where there is none yet."""
        while found := self.header_at(at):
            header, at = found
            if header.kind == "commit":
                return header, at
        return None

    def _bytes(self, at: int, count: int) -> bytes:
        self._file.seek(at)
        data = self._file.read(count)
        if len(data) != count:
            raise PacketError(f"the stream's file became shorter while it was read at byte {at}.")
        return data


class FileSink:
    """Appends versions to a file, each synced to disk before `send` returns.

    What a crash left of an unfinished version is cut off when the file is opened again, and when a
    write fails. One writer a file.

    Raises:
      PacketError: the file holds something else, or is damaged before its end.
    """

    def __init__(self, path: str | Path, *, key: bytes | None = None) -> None:
        self._path, self._seal = Path(path), Seal(key)
        if not self._path.exists():
            self._path.touch()
            _sync(self._path.parent)  # or a crash may lose the name with all its versions
        self._file = self._path.open("r+b")
        self._holds: Position = (b"", 0)
        try:
            self._end = self._committed()
            self._cut()
        except BaseException:
            self._file.close()
            raise

    def _committed(self) -> int:
        """Where the last whole version ends."""
        frames, at, end = FrameFile(self._file, self._seal), 0, 0
        while found := frames.header_at(at):
            start, (header, at) = at, found
            if header.kind == "commit":
                frames.frame(start, at)  # under another key its HMAC would not match
                self._holds, end = (header.stream, header.version), at
        return end

    def _cut(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size > self._end:
            _log.warning("%s: cut %d bytes of an unfinished version", self._path, size - self._end)
            self._file.truncate(self._end)

    def holds(self) -> Position:
        return self._holds

    def send(self, frames: Iterable[bytes]) -> None:
        self._file.seek(self._end)
        try:
            for frame in frames:
                self._file.write(frame + self._seal.tag(frame))
            self._file.flush()
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(self._end)
            raise
        self._end = self._file.tell()
        header = read_header(frame)
        self._holds = (header.stream, header.version)

    def close(self) -> None:
        self._file.close()


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FileSource:
    """Reads versions from a file that may still grow; one whose commit is not there yet is waited for."""

    def __init__(self, path: str | Path, *, key: bytes | None = None) -> None:
        self._path, self._seal = Path(path), Seal(key)
        self._at = self._version_end = 0

    def frames(self, timeout: float, position: Callable[[], Position]) -> Iterator[bytes]:
        deadline = time.monotonic() + timeout
        while True:
            yield from self._whole_versions()
            if time.monotonic() >= deadline:
                return
            time.sleep(NAP)

    def _whole_versions(self) -> Iterator[bytes]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            frames = FrameFile(file, self._seal)
            if frames.size() < self._at:
                raise PacketError(f"{self._path} is shorter than what was read of it; it was replaced. Open it anew.")
            while found := frames.commit_after(self._at):
                _, self._version_end = found
                while self._at < self._version_end:
                    start, end = self._at, frames.header_at(self._at)[1]  # type: ignore[index]
                    # First past it: a frame that is refused is not read again.
                    self._at = end
                    yield frames.frame(start, end)

    def refuse(self) -> None:
        """Skip the rest of the version. A file cannot tell its writer; `publish(sink, snapshot=True)` mends a gap."""
        self._at = self._version_end
