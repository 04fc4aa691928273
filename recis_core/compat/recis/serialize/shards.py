"""Rows of all ranks, dealt to shards by RecIS's slices; outcomes of all ranks.

Sizes: n rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from recis_core.backends.errors import RecisError
from recis_core.serialize.imports.recis_keys import SLICES, slices_of

Tables = dict[str, dict[str, Tensor]]
T = TypeVar("T")


def require_ranks(shards: int) -> None:
    """Raises RecisError unless the process group has as many ranks as there are shards; one shard needs no group."""
    ranks = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    if shards != ranks and shards != 1:
        raise RecisError(f"{shards} shards are written by as many ranks of torch.distributed; there are {ranks}.")


def dealt(tables: Tables, shard: int, shards: int) -> Tables:
    """This shard's rows of all ranks' tables: those whose id's unsigned remainder by 65,536 is in its slices. Collective."""
    if shards == 1:
        return tables
    mine: list[Any] = []
    for receiver in range(shards):
        part = {name: _part(slots, receiver, shards) for name, slots in tables.items()}
        gathered: list[Any] | None = [None] * shards if shard == receiver else None
        distributed.gather_object(part, gathered, dst=receiver)
        mine = gathered if gathered is not None else mine
    return {
        name: {slot: torch.cat([part[name][slot] for part in mine]) for slot in slots} for name, slots in tables.items()
    }


def _part(slots: dict[str, Tensor], shard: int, shards: int) -> dict[str, Tensor]:
    begin, end = slices_of(shard, shards)
    slices = slots["id"] & (SLICES - 1)  # the unsigned remainder of a power of two
    at = (slices >= begin) & (slices < end)
    return {slot: values[at] for slot, values in slots.items()}


def on_all_ranks(shards: int, call: Callable[[], T]) -> list[T]:
    """What the call gives on each rank, in order; if it raises on one, it raises on all. Collective with several shards."""
    if shards == 1:
        return [call()]
    outcome: Any = None
    failed: BaseException | None = None
    try:
        outcome = call()
    except Exception as error:
        failed = error
    everyone: list[Any] = [None] * shards
    distributed.all_gather_object(everyone, (None if failed is None else f"{type(failed).__name__}: {failed}", outcome))
    if failed is not None:
        raise failed
    errors = [f"rank {rank}: {text}" for rank, (text, _) in enumerate(everyone) if text is not None]
    if errors:
        raise RecisError(f"a checkpoint fails on all ranks, for it failed on {'; '.join(errors)}")
    return [each for _, each in everyone]
