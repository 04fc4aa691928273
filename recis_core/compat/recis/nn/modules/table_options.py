"""Our options of a RecIS table or feature.

Sizes: D dim.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

from recis_core.compat.recis.nn.hashtable_hook import FilterHook
from recis_core.compat.recis.nn.initializers import ConstantInitializer, Initializer
from recis_core.compat.recis.nn.modules.hashtable_hook_impl import (
    GlobalStepFilterHookImpl,
    HashtableHookFactory,
    old_rows,
)
from recis_core.compat.recis.nn.modules.step_clock import StepClock
from recis_core.compat.recis.nn.modules.table_dtype import check_dtype
from recis_core.options.embedding_option import EmbeddingOption
from recis_core.options.filter_hook import FilterHook as OurFilterHook


@dataclass(frozen=True)
class StorageOptions:
    """What all named tables of one storage have alike."""

    option: EmbeddingOption
    initializer: Initializer
    clock: StepClock | None


def storage_options(
    dim: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device | str,
    initializer: Initializer | None,
    grad_reduce_by: str,
    filter_hook: FilterHook | None,
    *,
    storage: str,
    pg: Any = None,
) -> StorageOptions:
    """grad_reduce_by: in our words, "worker", "id" or "rank". storage: tables of one text share storage.

    Raises:
      ValueError: a dtype that tables cannot have, or a filter that is not registered.
    """
    check_dtype(dtype)
    made = copy.copy(ConstantInitializer() if initializer is None else initializer)
    made.set_shape([block_size, dim])
    made.set_dtype(dtype)
    clock = _clock(filter_hook)
    hook = None if clock is None else OurFilterHook(old_rows(clock, clock.keep - 2))
    option = EmbeddingOption(
        dim, block_size, dtype, torch.device(device), pg=pg, initializer=made, grad_reduce_by=grad_reduce_by,
        filter_hook=hook, seed=made.seed, storage=storage,
    )  # fmt: skip
    return StorageOptions(option, made, clock)


def _clock(hook: FilterHook | None) -> StepClock | None:
    """A clock for RecIS's own filter; other filters delete by id."""
    if hook is None:
        return None
    known = HashtableHookFactory()._known_filters
    if hook.name not in known:
        raise ValueError(f"no filter_hook {hook.name!r} is registered; there are {', '.join(known)}.")
    if known[hook.name] is not GlobalStepFilterHookImpl:
        return None
    return StepClock(int(hook.params.get("filter_step", 100)))


def our_name(name: str) -> str:
    """Our tables' names hold no dot."""
    return name.replace(".", "·")
