"""A process group of this rank alone, for tables that ranks do not share."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from torch import distributed


def own_group() -> Any:
    """None where there is one rank anyway."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return None
    return _alone(distributed.get_rank(), id(distributed.group.WORLD))


@lru_cache(maxsize=1)
def _alone(rank: int, world: int) -> Any:
    return distributed.new_group([rank], use_local_synchronization=True)
