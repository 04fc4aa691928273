"""The `recis` command: train, eval, predict, plan, doctor, data, ckpt.

Heavy imports wait until a command is known, so that `recis --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from importlib import import_module

from recis_core.cli import torchrun
from recis_core.cli.slow_start import said_if_slow
from recis_core.cli.stopping import ending_well

COMMANDS = ("train", "eval", "predict", "plan", "doctor", "data", "ckpt")

USAGE = """usage: recis {train,eval,predict,plan,doctor,data,ckpt} ...

  recis train    train DeepFM or DLRM on a synthetic preset or on files
  recis eval     AUC and log loss of a saved run on files
  recis predict  a Parquet file of a saved run's scores
  recis plan     propose how a model's tables are placed on many ranks, on paper
  recis doctor   versions, devices, and which backends run here
  recis data     look at files, convert them, write a synthetic click log
  recis ckpt     look at checkpoints, verify, compare, compact, prune, import and export them

Each has --help."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0 done, 1 an error, 2 wrong flags; 130 ended by Ctrl-C, 143 by SIGTERM. A program that gives argv has its own
    signal handlers again afterwards.
    """
    # Two OpenMP pools (torch's, numba's) that spin would take the cores from each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    command, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if torchrun.launched():
        torchrun.leave_if_refused()
        torchrun.share_the_machine()
        torchrun.run_and_leave(lambda: _dispatch(command, rest, last=True))
    return _dispatch(command, rest, last=argv is None)


def _dispatch(command: str, rest: list[str], *, last: bool) -> int:
    if command in ("-h", "--help"):
        print(USAGE)
        return 0
    if command not in COMMANDS:
        print(f"recis: there is no command {command!r}.\n\n{USAGE}", file=sys.stderr)
        return 2
    return ending_well(command, lambda: _run(command, rest), last=last)


def _run(command: str, rest: list[str]) -> int:
    with ExitStack() as loading:
        if _shows_progress(command, rest):
            loading.enter_context(said_if_slow(f"recis {command}: loading PyTorch"))
        return _loaded_and_run(command, rest, loading)


def _loaded_and_run(command: str, rest: list[str], loading: ExitStack) -> int:
    """What is imported here loads PyTorch; `loading` is closed when that is done."""
    from recis_core.backends.errors import RecisError

    try:
        module = import_module(f"recis_core.cli.{command}")
        loading.close()
        status: int = module.run(rest)
        return status
    except (RecisError, ValueError, TypeError, KeyError, OSError, ImportError) as error:
        if os.environ.get("RECIS_TRACEBACK") == "1":
            raise
        said = _message(error)
        if not hasattr(error, "failed") and torchrun.first_to_say(said):  # else another rank failed, and reports it
            where = f" (rank {os.environ['RANK']})" if torchrun.launched() else ""
            print(f"recis {command}{where}: {said}", file=sys.stderr)
        return 1


def _shows_progress(command: str, rest: list[str]) -> bool:
    """Whether a person reads standard output."""
    return command in ("train", "eval", "predict") and "--json" not in rest and torchrun.is_first()


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error)
    # str(KeyError) is the repr of its message.
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _of_system(error: OSError) -> str:
    """The system's refusal, and the way out."""
    what = str(error.strerror).rstrip(".")
    if error.filename is None:
        return f"{what}. RECIS_TRACEBACK=1 shows where."
    return f"{error.filename}: {what}. Mend that, or name another path; RECIS_TRACEBACK=1 shows what for."
