"""What the caches of a model did between two logs."""

from __future__ import annotations

import time
from collections import Counter

from torch import nn

from recis_core.nn import filter_out_sparse_param


class CacheWindow:
    """Of all tables of a model that have tiers."""

    def __init__(self, model: nn.Module) -> None:
        physical = dict.fromkeys(table.physical for table in filter_out_sparse_param(model).values())
        self._tiers = [tiers for table in physical if (tiers := table.storage.tiers) is not None]
        self._last, self._at = self._now(), time.perf_counter()

    def _now(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for tiers in self._tiers:
            total.update(tiers.stats.counts)
            total["stall_us"] += round(1e6 * tiers.stats.stall_seconds)
        return total

    def since_last(self) -> dict[str, float]:
        """{} where no table has tiers."""
        if not self._tiers:
            return {}
        now, at = self._now(), time.perf_counter()
        did = {name: now[name] - self._last[name] for name in now}
        seconds, self._last, self._at = at - self._at, now, at
        stalled = did.pop("stall_us") / 1e6
        return {
            "hit_rate": did["occurrence_hits"] / max(1, did["occurrences"]),
            "stalled": stalled / max(seconds, 1e-9),
            **did,
        }
