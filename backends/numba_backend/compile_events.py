"""numba's events of compilations of our loops; a loop from its cache raises none."""

from __future__ import annotations

from typing import Any

from numba.core import event

from recis_core.backends.compiling import NUMBA

OURS = __name__.split(".")[0] + "."


class OurLoops(event.Listener):
    """Compilations of this package's loops, one inside of another or after it."""

    def on_start(self, event: Any) -> None:
        loop = event.data["dispatcher"].py_func
        if loop.__module__.startswith(OURS):
            NUMBA.begins(loop.__name__, _opening(loop.__name__))

    def on_end(self, event: Any) -> None:
        if event.data["dispatcher"].py_func.__module__.startswith(OURS):
            NUMBA.ends()


def _opening(name: str) -> str:
    if NUMBA.count == 0:
        return "numba compiles its loops, once for this machine: about half a minute on an idle one"
    return f"numba compiles {name}, once for this machine: some seconds"


def listen() -> None:
    event.register("numba:compile", OurLoops())
