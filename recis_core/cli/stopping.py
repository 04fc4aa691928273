"""How a command ends on Ctrl-C (SIGINT) or SIGTERM: after the step under way, saved, with one line and exit 130 or 143.

    ending_well("train", run)                               a signal ends what runs here at once, by Stopped …
        with current().noting():                            … in here it waits; a second Ctrl-C does not
            for batch in ending.read(batches, exchange):    … and ends the loop between steps, on all ranks

What a program's ending is stands in framework/ending.py, who hears of signals in framework/listening.py. A command also says its
last line.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

from recis_core.cli import torchrun
from recis_core.framework.ending import NAMES, Ending, Stopped
from recis_core.framework.listening import current, listening

__all__ = ["CommandEnding", "Ending", "Stopped", "current", "ending_well"]


class CommandEnding(Ending):
    """Of a command, which says in one line what ended it and how far it came."""

    def __init__(self, command: str) -> None:
        super().__init__()
        self.command = command

    def tell(self) -> None:
        """Print the last line, on one rank; on none where torchrun ends ranks because one failed, which prints its error."""
        if torchrun.is_first() and not (self.asked == signal.SIGTERM and torchrun.failed()):
            said = f"recis {self.command}: {NAMES[signal.Signals(self.asked)]} ended it; {self.done}."
            print(said, file=sys.stderr, flush=True)


def ending_well(command: str, run: Callable[[], int], *, last: bool = False) -> int:
    """What run() returns; where a signal ends it, 128 + its number after a line on stderr.

    last: the process ends after it, and signals that come after the run was over are ignored.
    """
    with listening(CommandEnding(command), last=last) as ended:
        try:
            try:
                status = run()
            except Stopped:
                status = 0
            except BaseException:
                # What a signal raises inside of a library may come out of it as another error.
                if not ended.asked or torchrun.launched():
                    raise
                status = 0
            ended.close()
        except Stopped:
            ended.close()
    if status or not ended.asked:
        return status
    ended.tell()
    if last and ended.hurried:
        _leave_threads(ended.status)
    return ended.status


def _leave_threads(status: int) -> None:
    """End the process here if a thread would keep it alive, as one that writes a state does; what it writes is dropped."""
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
