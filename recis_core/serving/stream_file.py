"""A stream in a file, appended a version at a time; frame_file.py has the format."""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from recis_core.backends.errors import PacketError, StorageInUse
from recis_core.durable import open_regular, sync_directory
from recis_core.packets.packet_bytes import read_header
from recis_core.packets.packet_frame import Bytes
from recis_core.packets.packet_header import MAX_NUMBER
from recis_core.serving.authentication import Seal
from recis_core.serving.delta_writer import Position
from recis_core.serving.frame_file import FRAME_LIMIT, FrameFile
from recis_core.uninterrupted import uninterrupted
from recis_core.urls import local_path

NAP = 0.01
_log = logging.getLogger(__name__)


class FileSink:
    """Appends versions to a file, each synced to disk before `send` returns.

    The file is made readable by its user alone, unless RECIS_FILE_MODE says otherwise. What a crash
    left of an unfinished version is cut off when the file is opened again, and when a write fails.

    Args:
      key: of at least 16 bytes, the same for who reads it.
      follow: whether the path may be a link.

    Raises:
      PacketError: the file holds something else, or is damaged before its end, or has another key.
      StorageInUse: another sink writes to it. NotAFile: no regular file is there.
    """

    def __init__(self, path: str | Path, *, key: bytes | None = None, follow: bool = False) -> None:
        self._path, seal = (
            local_path(path, "the stream's file"),
            Seal(key),
        )  # which checks the key before there is a file
        is_new = not self._path.exists()
        self._file = io.FileIO(open_regular(self._path, os.O_RDWR | os.O_CREAT, follow=follow), "r+")
        self._holds: Position = (b"", 0)
        try:
            self._lock()
            self._frames = FrameFile(self._file, self._path, key, None, MAX_NUMBER)
            self._end = self._begun(is_new) if seal.tag_bytes or is_new else 0
            self._end = self._committed(self._end)
            self._cut()
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise StorageInUse(
                f"another sink writes to {self._path}: a file has one writer. Close that one, or write to another file."
            ) from error

    def _begun(self, is_new: bool) -> int:
        """Where frames begin, with a head before them if there is to be one."""
        if is_new:
            sync_directory(self._path.parent)  # or a crash may lose the name with all its versions
        if self._frames.begin and not (self._frames.size() and self._frames.has_head()):
            self._file.truncate(0)
            self._write(0, self._frames.new_head())
        return self._frames.begin

    def _committed(self, at: int) -> int:
        """Where the last whole version ends."""
        frames, end = self._frames, at
        try:
            while found := frames.header_at(at):
                header, behind = found
                if header.kind == "commit":
                    frames.frame(at, behind)  # under another key its HMAC would not match
                    self._holds, end = (header.stream, header.version), behind
                at = behind
        except PacketError as error:
            if at == 0 or not frames.is_zeros(at):
                raise PacketError(f"{error} The last whole version before it ends at byte {end}.") from error
        return end

    def _cut(self) -> None:
        size = self._frames.size()
        if size > self._end:
            _log.warning("%s: cut %d bytes of an unfinished version", self._path, size - self._end)
            self._file.truncate(self._end)

    def holds(self) -> Position:
        return self._holds

    def send(self, frames: Iterable[bytes]) -> None:
        """Raises OSError, or PacketError where the file was removed, replaced or cut: then make another sink."""
        self._check_place()
        self._cut()
        try:
            self._append(frames)
        except BaseException:
            with suppress(OSError):  # the next send, or the next sink, tries again
                self._cut()
            raise
        try:
            os.fsync(self._file.fileno())
        except OSError:
            self._holds = (b"", 0)  # whatever is there, all rows follow it
            raise

    def _append(self, frames: Iterable[bytes]) -> None:
        """The commit last, when all before it is on disk; from then on the version counts."""
        at, last = self._end, b""
        for frame in frames:
            at = self._write(at, last)
            last = frame
        os.fsync(self._file.fileno())
        header = read_header(last)
        with uninterrupted():
            self._end = self._write(at, last)
            self._holds = (header.stream, header.version)

    def _write(self, at: int, frame: bytes) -> int:
        """Where it ends. Its HMAC follows a frame; nothing, and a head, have none."""
        tag = self._frames.seal(at).tag(frame) if frame and at >= self._frames.begin else b""
        for part in (frame, tag):
            rest = memoryview(part)
            while rest:
                written = os.pwrite(self._file.fileno(), rest, at)
                rest, at = rest[written:], at + written
        return at

    def _check_place(self) -> None:
        mine = os.fstat(self._file.fileno())
        with suppress(FileNotFoundError):
            there = os.stat(self._path)
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino) and mine.st_size >= self._end:
                return
        raise PacketError(
            f"{self._path} was removed, replaced or cut while this sink wrote to it. Make a new FileSink."
        )

    def close(self) -> None:
        """Idempotent."""
        if not self._file.closed:
            with suppress(OSError):
                fcntl.flock(self._file.fileno(), fcntl.LOCK_UN)  # a forked child may have the file, too
            self._file.close()


class FileSource:
    """Reads versions from a file that may still grow; one whose commit is not there yet is waited for.

    With a key a frame is taken only in the file and at the place where it was written.

    Args:
      key: as the writer's. follow: whether the path may be a link.
      max_frame_bytes: a longer frame is refused before it is read.
    """

    def __init__(
        self, path: str | Path, *, key: bytes | None = None, follow: bool = False, max_frame_bytes: int = FRAME_LIMIT
    ) -> None:
        self._path, self._key = local_path(path, "the stream's file"), key
        self._follow, self._max_frame = follow, max_frame_bytes
        Seal(key)
        self._at = self._version_end = 0
        self._nonce: bytes | None = None
        self._file_number: tuple[int, int] | None = None

    def frames(self, timeout: float, position: Callable[[], Position]) -> Iterator[Bytes]:
        deadline = time.monotonic() + timeout
        while True:
            yield from self._whole_versions()
            if (left := deadline - time.monotonic()) <= 0:
                return
            time.sleep(min(NAP, left))

    def _whole_versions(self) -> Iterator[bytes]:
        """Those that are there now; what a writer appends meanwhile is the next look's."""
        try:
            file = io.FileIO(open_regular(self._path, os.O_RDONLY, follow=self._follow), "r")
        except FileNotFoundError:
            if self._at:
                raise self._other("gone") from None
            return
        with file:
            self._check_same(file)
            frames = FrameFile(file, self._path, self._key, self._nonce, self._max_frame)
            if frames.has_head():
                self._nonce, size = frames.nonce, frames.size()
                self._at = max(self._at, frames.begin)
                while (end := frames.commit_after(self._at, size)) is not None:
                    self._version_end = end
                    yield from self._frames_until(frames, end)

    def _frames_until(self, frames: FrameFile, version_end: int) -> Iterator[bytes]:
        while self._at < version_end and (found := frames.header_at(self._at)):
            start, (_, end) = self._at, found
            # First past it: a frame that is refused is not read again.
            self._at = end
            yield frames.frame(start, end)

    def _check_same(self, file: io.FileIO) -> None:
        status = os.fstat(file.fileno())
        number = status.st_dev, status.st_ino
        if self._at and (number != self._file_number or status.st_size < self._at):
            raise self._other("shorter, or another file,")
        self._file_number = number

    def _other(self, what: str) -> PacketError:
        return PacketError(
            f"{self._path} is {what} where {self._at} bytes of it were read; it was replaced. Open it anew."
        )

    def refuse(self) -> None:
        """Skip the rest of the version. A file cannot tell its writer; `publish(sink, snapshot=True)` mends a gap."""
        self._at = max(self._at, self._version_end)
