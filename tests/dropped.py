"""Where Python drops what a signal's handler raises: inside callbacks of weak references, and of objects that go."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

SOON = 1e-4  # seconds
CALLBACKS = {"_weakrefset.py": ("_remove",), "weakref.py": ("remove", "__call__", "_commit_removals")}


def later_if_dropped(frame: FrameType | None) -> bool:
    """Whether the handler must not raise in this frame; its timer then runs again, and it may do so soon."""
    if not _is_dropped(frame):
        return False
    signal.setitimer(signal.ITIMER_REAL, SOON)
    return True


def _is_dropped(frame: FrameType | None) -> bool:
    while frame is not None:
        name = frame.f_code.co_name
        if name == "__del__" or name in CALLBACKS.get(Path(frame.f_code.co_filename).name, ()):
            return True
        frame = frame.f_back
    return False
