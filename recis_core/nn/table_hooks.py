"""The score and the eviction of a storage, from the hooks of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recis_core.options.sharding import Sharding
from recis_core.table.eviction.eviction import Eviction

if TYPE_CHECKING:
    from recis_core.options.embedding_option import EmbeddingOption

# By sharding: filters that choose the same rows on all ranks that hold the same keys, without communication.
AGREEING = {"replicated": ("step", "norm"), "column": ("step", "lru", "lfu")}


def check_hooks(sharding: Sharding, option: EmbeddingOption) -> None:
    """Raises ValueError if ranks could admit or evict different rows."""
    cause = None if option.filters is None else option.filters.cause
    if option.admits is not None and (sharding.kind == "replicated" or sharding.hot_rows):
        raise ValueError(
            f"admit_hook {option.admit_hook} needs each lookup to reach a row's one owner; with sharding={str(sharding)!r} "
            'ranks read rows of their own. Use sharding="row".'
        )
    if cause is not None and sharding.hot_rows:
        raise ValueError(
            f"filter_hook {option.filter_hook} needs each use to reach a row's owner; with sharding={str(sharding)!r} those "
            'of hot rows do not. Use sharding="row".'
        )
    agreeing = AGREEING.get(sharding.kind)
    if cause is not None and agreeing is not None and cause not in agreeing:
        raise ValueError(
            f"filter_hook {option.filter_hook} may choose other rows on each rank, and with sharding={sharding.kind!r} they must "
            f'agree, as they do by {" or ".join(agreeing)}. Use one of these, or sharding="row".'
        )


def score_of(option: EmbeddingOption) -> str:
    """TableSpec.score: counts for LFU, else the last step."""
    return "count" if option.filters is not None and option.filters.cause == "lfu" else "step"


def eviction_of(options: Sequence[EmbeddingOption], world: int) -> Eviction | None:
    """The eviction of a storage; options: of its named tables, in order."""
    hook = options[0].filters
    spread = [world if Sharding.of(option.sharding).kind == "row" else 1 for option in options]
    return None if hook is None else Eviction(hook, spread)
