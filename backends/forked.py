"""A forked child lacks its parent's threads.

    generation 0 ── fork ──▶ 1 ── fork ──▶ 2        an engine made in one cannot be used in the next

A fork copies memory, but no threads: those of OpenMP, of numba's loops, of JAX and of process groups are gone, and a call
that needs one hangs or ends the process. Tables made in the child work without them.
"""

from __future__ import annotations

import os
import sys

import torch

from recis_core.backends.errors import BackendUnavailable

_processes = [os.getpid()]  # this one last, before it those it was forked from
_parent_ran_jax = _threads_are_lost = False


def generation() -> int:
    """How many forks made this process, since this package was imported."""
    return len(_processes) - 1


def made_in(number: int) -> int:
    """The id of the process of that generation."""
    return _processes[number]


def prepare(backend: str) -> None:
    """Call in a forked child before it makes a table.

    Torch's loops then run on one thread, as in a DataLoader worker: with more they would wait for threads that are gone.

    Raises:
      BackendUnavailable: JAX ran in the parent, and cannot in the child.
    """
    global _threads_are_lost
    if backend in ("jax", "pallas") and _parent_ran_jax:
        raise BackendUnavailable(
            f"RECIS_BACKEND={backend} cannot run in process {os.getpid()}: it was forked from {_processes[-2]}, in which "
            "JAX ran, and JAX's threads are not here. Start the process by multiprocessing.get_context('spawn'), fork "
            "before JAX is used, or use RECIS_BACKEND=numba or torch in it."
        )
    if _threads_are_lost:
        torch.set_num_threads(1)
        _threads_are_lost = False


def _before_a_fork() -> None:
    global _parent_ran_jax
    bridge = sys.modules.get("jax._src.xla_bridge")
    _parent_ran_jax = _parent_ran_jax or bool(getattr(bridge, "_backends", None))


def _in_the_child() -> None:
    global _threads_are_lost
    _processes.append(os.getpid())
    _threads_are_lost = True


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_before_a_fork, after_in_child=_in_the_child)
