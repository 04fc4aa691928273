"""Ranks with unequal data, kept in step: whoever has none left runs empty batches until all are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from recis_core.channel.channel import sum_over_ranks
from recis_core.channel.rank_group import world_size
from recis_core.ragged import RaggedTensor

Batch = TypeVar("Batch")


def in_step(batches: Iterable[Batch], empty: Callable[[], Batch] | None = None, pg: Any = None) -> Iterator[Batch]:
    """This rank's batches, then empty ones until every rank's have ended; all ranks yield equally many. Collective.

    Training as usual, forward and step on every batch, is then the same sequence of collectives on every rank.
    Scale the loss by `global_mean`, in which an empty batch counts for nothing.

    Args:
      batches: any iterable. empty: makes a batch of no rows; None empties a batch seen before (`emptied`).
      pg: None is the default group.

    Raises:
      ValueError: this rank has no batch at all, and `empty` is not given.
    """
    size, last, source = world_size(pg), None, iter(batches)
    while True:
        batch = next(source, None)
        if size > 1 and not _any_rank(batch is not None, pg):
            return
        if size == 1 and batch is None:
            return
        last = batch if batch is not None else last
        yield batch if batch is not None else _empty(last, empty)


def _any_rank(has: bool, pg: Any) -> bool:
    return int(sum_over_ranks("in_step", torch.tensor(int(has)), pg)) > 0


def _empty(last: Any, empty: Callable[[], Any] | None) -> Any:
    if empty is not None:
        return empty()
    if last is None:
        raise ValueError(
            "this rank has no batch to make an empty one of, while others have some. "
            "Pass empty=, a function that makes a batch of no rows."
        )
    return emptied(last)


def emptied(batch: Any) -> Any:
    """The batch without its rows: tensors [B, …] become [0, …], ragged tensors lose all rows; dicts, lists and tuples stay
    what they are, named tuples too.

    Raises:
      TypeError: it holds something else.
    """
    if isinstance(batch, Mapping):
        return {name: emptied(value) for name, value in batch.items()}
    if isinstance(batch, Tensor):
        return batch[:0]
    if isinstance(batch, RaggedTensor):
        weight = batch.weight()
        offsets = [torch.zeros(1, dtype=o.dtype, device=o.device) for o in batch.offsets()]
        return RaggedTensor(batch.values()[:0], offsets, weight=None if weight is None else weight[:0])
    if isinstance(batch, tuple | list):
        make = getattr(batch, "_make", type(batch))  # of a named tuple
        return make(emptied(value) for value in batch)
    raise TypeError(f"a batch holds dicts, tensors and RaggedTensors; got {type(batch).__name__}. Pass empty=.")
