"""Who hears of signals: the innermost `listening` of a program.

A second thread gets each signal, too, for the main thread may be inside a long call, of a compiler for instance.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from recis_core.framework.ending import NAMES, Ending, Stopped

UNHANDLED = (signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN)

listeners: list[Ending] = []  # the innermost last; empty where nothing listens


def current() -> Ending:
    """That of the program that listens. Elsewhere one that gets no signals: the program's handlers stay."""
    return listeners[-1] if listeners else Ending()


@contextmanager
def ending_on_signals() -> Iterator[Ending]:
    """For a script: inside, Ctrl-C and SIGTERM end it as a training run should end.

    A Trainer that trains inside finishes its step, saves a checkpoint and calls its hooks' ends; other code ends at once. A
    second Ctrl-C ends everything at once. Then the script's `finally` blocks run, and it exits with status 130 (SIGINT) or
    143 (SIGTERM). On the main thread alone; elsewhere, and for signals that the process ignores, nothing changes.

    Raises:
      SystemExit: a signal came. Its code is 128 + the signal's number. KeyboardInterrupt: a Ctrl-C came in an interactive
        session, which goes on.
    """
    with listening(Ending()) as ending:
        try:
            yield ending
        except Stopped:
            ending.close()
        except BaseException:
            # What a signal raises inside of a library may come out of it as another error.
            if not ending.hurried:
                raise
            ending.close()
    if ending.asked == signal.SIGINT and hasattr(sys, "ps1"):
        raise KeyboardInterrupt
    if ending.asked:
        raise SystemExit(ending.status)


@contextmanager
def ending_unless_handled() -> Iterator[None]:
    """ending_on_signals(), unless something listens already, or the program handles SIGINT or SIGTERM by itself."""
    if listeners or any(signal.getsignal(number) not in UNHANDLED for number in NAMES):
        yield
    else:
        with ending_on_signals():
            yield


@contextmanager
def listening(ending: Ending, *, last: bool = False) -> Iterator[Ending]:
    """SIGINT and SIGTERM go to the Ending; but on the main thread alone, and where they are not ignored.

    last: the process ends after it, and signals that come later are ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before = {number: signal.getsignal(number) for number in NAMES}
    listeners.append(ending)
    try:
        with _watched(ending), _lost_told(ending):
            for number in (n for n, handler in before.items() if handler is not signal.SIG_IGN):
                signal.signal(number, ending.hear)
            yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if last else handler)
        listeners.remove(ending)
        ending.forget()


@contextmanager
def _lost_told(ending: Ending) -> Iterator[None]:
    """Inside, a Stopped that Python cannot raise on makes the ending send its signal `again`; other errors go where they went."""
    before = sys.unraisablehook

    def told(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is Stopped:
            ending.again()
        else:
            before(lost)

    sys.unraisablehook, ending._listens = told, True
    try:
        yield
    finally:
        with ending._sending:
            ending._listens = False
        sys.unraisablehook = before


@contextmanager
def _watched(ending: Ending) -> Iterator[None]:
    """Inside, a thread gets each signal when it comes."""
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    over = threading.Event()
    watcher = threading.Thread(target=ending.watch, args=(theirs, over), name="recis-signals", daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        ours.close()
        watcher.join()
        theirs.close()
