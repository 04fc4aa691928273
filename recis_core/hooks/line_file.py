"""A file of JSON objects, one a line, that a killed run leaves whole and a resumed run goes on with.

Each line is one write to the end of the file. What a kill of the machine has left of a last line is cut off when the
file is opened again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recis_core.durable import file_mode, open_regular, sync_directory
from recis_core.hooks.json_line import json_line

Line = dict[str, Any]


class LineFile:
    """An open file, for lines at its end.

    Raises:
      NotAFile: the path is a directory, pipe or device. OSError: the system's error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = open_regular(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, follow=True)

    def write(self, line: Line) -> None:
        data = json_line(line).encode() + b"\n"
        while data:  # the system may take a part, on a full disk for instance, before it refuses the rest
            data = data[os.write(self._handle, data) :]

    def close(self) -> None:
        os.close(self._handle)


def lines_in(path: Path) -> Iterator[tuple[Line, bytes]]:
    """Whole lines, as objects and as bytes; an unfinished last one is left out.

    Raises:
      ValueError: a line is no JSON object with an integer "step".
    """
    with open(path, "rb") as file:
        for number, data in enumerate(file, 1):
            if data.endswith(b"\n"):
                yield _object(path, number, data), data


def _object(path: Path, number: int, data: bytes) -> Line:
    try:
        line = json.loads(data)
    except ValueError:
        line = None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        raise ValueError(
            f'{path} holds other things than logged steps: line {number} is no JSON object with an integer "step", but '
            f"{data[:60]!r}. Name another file."
        )
    return line


def keep_lines(path: Path, kept: Callable[[Line], bool]) -> None:
    """Cut the file down to its whole lines for which `kept` is true, at once; they are asked in order.

    Raises:
      ValueError: as lines_in. OSError: the system's error. The file is unchanged.
    """
    data = [line_data for line, line_data in lines_in(path) if kept(line)]
    if sum(map(len, data)) == path.stat().st_size:
        return
    path = path.resolve()  # a link stays a link
    aside = path.with_name(f".{path.name}.cut")
    handle = os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, file_mode())
    with open(handle, "wb") as file:
        file.writelines(data)
        file.flush()
        os.fsync(handle)
    os.replace(aside, path)
    sync_directory(path.parent)
