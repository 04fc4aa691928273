"""Errors for objects that work only in the process that made them."""

from __future__ import annotations

import os
from typing import NoReturn

from recis_core.backends.errors import RecisError
from recis_core.backends.forked import generation, made_in

__all__ = ["generation", "refuse_in_child", "refuse_to_pickle"]


def refuse_in_child(what: str, made: int) -> NoReturn:
    """Raises RecisError: `what` was made in the process of generation `made`, and this process was forked from it."""
    raise RecisError(
        f"{what} was made in process {made_in(made)}, and this is process {os.getpid()}, forked from it: the threads that "
        "work for it are not here. Build the engine in the child and load_state_dict() there, or start the process by "
        "multiprocessing.get_context('spawn') and build it there."
    )


def refuse_to_pickle(what: str) -> NoReturn:
    """Raises RecisError; for __reduce_ex__ of objects that cannot be copied to another process or into a file."""
    raise RecisError(
        f"{what} cannot be pickled or copied, nor handed to another process: its rows live in this one. Build it in the other "
        "process and load_state_dict() there what state_dict() gives here. To save a model, "
        "torch.save(model.state_dict(), path)."
    )
