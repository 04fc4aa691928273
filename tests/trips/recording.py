"""Calls of our functions, seen by sys.setprofile on this thread.

An *entry* is a call of a function in one of our files by anything outside that file: another of our files, or torch.
Compiled code (numba's loops, jax's programs, torch's operators) is no call.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
OURS = ("recis_core", "backends", "bridge", "pallas_kernels")


class Call(NamedTuple):
    """One call: its file, its function, how many of our functions were running, whether it entered the file."""

    file: str
    function: str
    depth: int
    entry: bool


class Trip(list[Call]):
    """The calls of one phase, in order."""

    @property
    def files(self) -> int:
        return len({call.file for call in self})

    @property
    def entries(self) -> int:
        return sum(call.entry for call in self)

    def tree(self) -> Iterator[str]:
        """A line a call; the file stands where the call enters it."""
        for call in self:
            yield "  " * call.depth + (f"{call.file}: " if call.entry else "") + call.function


@contextmanager
def recorded() -> Iterator[Trip]:
    """The calls of what runs inside."""
    trip = Trip()

    def see(frame: FrameType, event: str, _: Any) -> None:
        # numba shows its compiled loops as frames that nobody called.
        if event == "call" and frame.f_back is not None and (file := file_of(frame.f_code.co_filename)):
            caller = file_of(frame.f_back.f_code.co_filename)
            trip.append(Call(file, frame.f_code.co_qualname, _depth(frame), file != caller))

    collecting = gc.isenabled()
    gc.disable()  # what it collects may call us back
    sys.setprofile(see)
    try:
        yield trip
    finally:
        sys.setprofile(None)
        if collecting:
            gc.enable()


def _depth(frame: FrameType) -> int:
    """How many of our functions called each other to come here."""
    depth, above = 0, frame.f_back
    while above is not None:
        depth += file_of(above.f_code.co_filename) is not None
        above = above.f_back
    return depth


@cache
def file_of(path: str) -> str | None:
    """Its path from the root of the repository, links followed; None of a file that is none of the library's."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(ROOT) or real.relative_to(ROOT).parts[0] not in OURS:
        return None
    return str(real.relative_to(ROOT))
