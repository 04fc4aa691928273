"""Functions run on several processes that form one gloo process group.

Processes fork from a server that has imported torch and numba, so that starting one takes tenths of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT = 420  # seconds for all ranks, which compile their loops on a fresh checkout
QUIET = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "RECIS_EXCHANGE_TIMEOUT": "240"}

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.exchange.preloaded"])


@dataclass
class Failure:
    """What a rank raised."""

    kind: str
    message: str
    trace: str


def run_ranks(world: int, function: Callable[..., Any], *args: Any, env: dict[str, str] | None = None) -> list[Any]:
    """function(rank, world, *args) on each rank; what each returned, in order.

    Raises:
      AssertionError: a rank raised; its traceback is the message.
    """
    results = try_ranks(world, function, *args, env=env)
    for rank, result in enumerate(results):
        if isinstance(result, Failure):
            raise AssertionError(f"rank {rank} of {world} raised:\n{result.trace}")
    return results


def try_ranks(world: int, function: Callable[..., Any], *args: Any, env: dict[str, str] | None = None) -> list[Any]:
    """As run_ranks, with a Failure where a rank raised."""
    with tempfile.TemporaryDirectory() as folder:
        settings = QUIET | {"RECIS_BACKEND": "numba", "WORLD_SIZE": str(world)} | (env or {})
        workers = [
            _context.Process(target=_work, args=(rank, world, folder, settings, function, args))
            for rank in range(world)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(LIMIT)
        stuck = [rank for rank, worker in enumerate(workers) if worker.is_alive()]
        for worker in workers:
            worker.kill()
        assert not stuck, f"ranks {stuck} of {world} hung in {function.__name__}"
        return [_result(Path(folder) / f"{rank}.pickle", worker.exitcode) for rank, worker in enumerate(workers)]


def _result(file: Path, exitcode: int | None) -> Any:
    if not file.exists():
        return Failure("Exit", f"exit code {exitcode}", f"the process ended with exit code {exitcode} and said nothing")
    return pickle.loads(file.read_bytes())


def _work(rank: int, world: int, folder: str, env: dict[str, str], function: Callable[..., Any], args: tuple) -> None:
    os.environ.update(env, RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ.setdefault("LOCAL_WORLD_SIZE", str(world))
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    try:
        result = function(rank, world, *args)
    except Exception as error:
        result = Failure(type(error).__name__, str(error), traceback.format_exc())
    aside = Path(folder) / f"{rank}.writing"
    aside.write_bytes(pickle.dumps(result))
    aside.rename(Path(folder) / f"{rank}.pickle")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # gloo's threads may abort a process that leaves in the ordinary way
