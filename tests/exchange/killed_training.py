"""recis train, in which ranks kill themselves in the middle of exchanges.

RECIS_TEST_KILLS="0:1:37:0.002 1:0:55:0": at attempt 0 rank 1, .002 s after it began its 37th exchange; at attempt 1 …
What was killed is written to RECIS_TEST_KILLED, a line each.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import torch.distributed as dist

import recis_core.cli


def kill_at(call: int, delay: float, said: str | None = None) -> None:
    """SIGKILL to this process, `delay` seconds after its all-to-all number `call` began; 0: before it sends any."""
    exchange, calls = dist.all_to_all_single, [0]

    def die() -> None:
        if said is not None:
            with open(os.environ["RECIS_TEST_KILLED"], "a") as file:
                file.write(said + "\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == call and delay == 0:
            die()
        if calls[0] == call:
            threading.Timer(delay, die).start()
        return exchange(*args, **kwargs)

    dist.all_to_all_single = counted


def arm() -> None:
    mine = f"{os.environ['TORCHELASTIC_RESTART_COUNT']}:{os.environ['RANK']}:"
    for kill in os.environ["RECIS_TEST_KILLS"].split():
        if kill.startswith(mine):
            call, delay = kill.removeprefix(mine).split(":")
            kill_at(int(call), float(delay), kill)


if __name__ == "__main__":
    arm()
    sys.exit(recis_core.cli.main())
