"""From a TrainConfig to a CacheConfig, and what the caches of a model did, in sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from recis_core.cli.train_config import TrainConfig
from recis_core.nn import CacheConfig, HashTable
from recis_core.planning.quantity import parse_bytes, parse_count
from recis_core.table.tiers.inside import tiered


def read_cache(config: TrainConfig) -> CacheConfig | None:
    """None where tables are to be all on the device.

    Raises:
      ValueError: a flag's text is none it takes, or two of them contradict each other.
    """
    if config.cache_device_rows is None and config.cache_device_bytes is None:
        return None
    host, _, disk = config.cache_precision.partition(",")
    return CacheConfig(
        device_bytes=_bytes(config.cache_device_bytes),
        device_rows=_rows(config.cache_device_rows),
        host_bytes=_bytes(config.cache_host_bytes),
        host_rows=_rows(config.cache_host_rows),
        disk=config.cache_disk,
        disk_index_bytes=_bytes(config.cache_disk_index_bytes),
        disk_mapped_bytes=_bytes(config.cache_disk_mapped_bytes),
        policy=config.cache_policy or ("lookahead" if config.prefetch else "lfu"),
        prefetch=config.prefetch,
        host_precision=host.strip(),
        disk_precision=(disk or host).strip(),
    )


def _bytes(text: str | None) -> int | None:
    return None if text is None else parse_bytes(text)


def _rows(text: str | None) -> int | str | None:
    return text if text is None or text.strip().endswith("%") else parse_count(text)


def cache_totals(tables: Iterable[HashTable]) -> dict[str, int]:
    """Sums over storages, {} where none has a cache."""
    total: Counter[str] = Counter()
    for physical in dict.fromkeys(table.physical for table in tables):
        tiers: Any = tiered(physical.state)
        if tiers is not None:
            total.update({name.removeprefix("cache_"): count for name, count in tiers.summary().items()})
    return dict(total)
