"""Batches of a (stop, batch) data set, of all its windows one after another, until a rank has no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed

from recis_core.compat.recis.utils.data_utils import copy_data_to_device
from recis_core.compat.recis.utils.logger import Logger

logger = Logger(__name__)


def batches_of(dataset: Any, *, to_cuda: bool) -> Iterator[Any]:
    """Batches until the data of one of the ranks ends; each `next` is collective."""
    for batch in _of_windows(dataset) if has_windows(dataset) else _of(iter(dataset)):
        moved = copy_data_to_device(batch, "cuda") if to_cuda else batch
        if any_rank(False):
            return
        yield moved
    any_rank(True)


def has_windows(dataset: Any) -> bool:
    return hasattr(dataset, "_window_paths")


def _of(iterator: Iterator[tuple[bool, Any]]) -> Iterator[Any]:
    while True:
        stop, batch = next(iterator)
        if stop:
            return
        yield batch


def _of_windows(dataset: Any) -> Iterator[Any]:
    while (iterator := next_window(dataset)) is not None:
        yield from _of(iterator)


def next_window(dataset: Any) -> Iterator[tuple[bool, Any]] | None:
    """The iterator of the next window that is not to be skipped; None after the last."""
    while True:
        try:
            skip = dataset.next_window()
        except StopIteration:
            logger.info_rank0("the last window is done")
            return None
        logger.info_rank0("%s window, offset %d", "skipped" if skip else "next", int(dataset._read_offset[0]))
        if not skip:
            return iter(dataset)


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank. Collective."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return flag
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    state = torch.tensor(int(flag), device=device)
    distributed.all_reduce(state, op=distributed.ReduceOp.MAX)
    return bool(state)
