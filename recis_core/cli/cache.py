"""From a TrainConfig to a CacheConfig, and what the caches of a model did, in sums."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from recis_core.backends.errors import RecisError
from recis_core.cli.flags import flag
from recis_core.cli.train_config import TrainConfig
from recis_core.nn import CacheConfig, HashTable
from recis_core.options.cache_config import PRECISIONS
from recis_core.planning.quantity import parse_bytes, parse_count

ARGUMENTS = "device_bytes|device_rows|host_bytes|host_rows|disk_index_bytes|disk_mapped_bytes"
# Of tables and ranks the largest is told; other counts are summed.
LARGEST = ("host_rounding_rms_millionths", "disk_rounding_rms_millionths")


def read_cache(config: TrainConfig) -> CacheConfig | None:
    """None where tables are to be all on the device.

    Raises:
      ValueError: a flag's text is none it takes, or two of them contradict each other; the flags are named.
    """
    if config.cache_device_rows is None and config.cache_device_bytes is None:
        return None
    host, disk = _precisions(config)
    usual = "lookahead" if config.prefetch else "lfu"
    with named_by_flags():
        return CacheConfig(
            device_bytes=_bytes(config, "cache_device_bytes"),
            device_rows=_rows(config, "cache_device_rows"),
            host_bytes=_bytes(config, "cache_host_bytes"),
            host_rows=_rows(config, "cache_host_rows"),
            disk=config.cache_disk,
            disk_index_bytes=_bytes(config, "cache_disk_index_bytes"),
            disk_mapped_bytes=_bytes(config, "cache_disk_mapped_bytes"),
            policy=usual if config.cache_policy is None else config.cache_policy,
            prefetch=config.prefetch,
            host_precision=host,
            disk_precision=disk,
        )


@contextmanager
def named_by_flags() -> Iterator[None]:
    """What caches raise inside names flags in place of CacheConfig's arguments."""
    try:
        yield
    except (RecisError, ValueError) as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (_flags_for_arguments(error.args[0]),)
        raise


def _flags_for_arguments(said: str) -> str:
    said = re.sub(r"CacheConfig\((disk=\w+)\)", r"\1", said).replace("CacheConfig.", "")
    said = re.sub(rf"\b(?:{ARGUMENTS})\b", lambda found: flag(f"cache_{found[0]}"), said)
    return re.sub(r"\bpolicy (?=must|takes|needs|')", "--cache-policy ", re.sub(r"\bdisk=", "--cache-disk ", said))


def _bytes(config: TrainConfig, name: str) -> int | None:
    text = getattr(config, name)
    try:
        return None if text is None else parse_bytes(text)
    except ValueError:
        rows = name.replace("_bytes", "_rows")
        way = f" A share of each table's rows is {flag(rows)} {text}." if "%" in text and hasattr(config, rows) else ""
        raise ValueError(f"{flag(name)} must be a size such as 512MB, 40GiB or 1e9; got {text!r}.{way}") from None


def _rows(config: TrainConfig, name: str) -> int | str | None:
    text = getattr(config, name)
    if text is None or text.strip().endswith("%"):
        return None if text is None else str(text)
    try:
        return parse_count(text)
    except ValueError:
        raise ValueError(
            f"{flag(name)} must be a count such as 100000 or 40M, or a share of each table's rows as 1%; got {text!r}."
        ) from None


def _precisions(config: TrainConfig) -> tuple[str, str]:
    """(in host memory, on disk)"""
    said = "same" if config.cache_precision is None else config.cache_precision
    each = [part.strip() for part in said.split(",")]
    if len(each) > 2 or "" in each:
        raise ValueError(
            f"--cache-precision must be one precision, or two by comma as bf16,int8, host memory and disk; got {said!r}."
        )
    if len(each) == 2 and config.cache_disk is None:
        raise ValueError(f"--cache-precision {said} needs --cache-disk DIR, where the second one is used.")
    for part in each:
        if part not in PRECISIONS:
            raise ValueError(f"--cache-precision must be of {', '.join(PRECISIONS)}; got {part!r}.")
    return each[0], "same" if config.cache_disk is None else each[-1]


def cache_totals(tables: Iterable[HashTable]) -> dict[str, int]:
    """Of all storages, as `combined`; {} where none has a cache."""
    each = [physical.storage.tiers for physical in dict.fromkeys(table.physical for table in tables)]
    said = [tiers.summary() for tiers in each if tiers is not None]
    return combined([{name.removeprefix("cache_"): count for name, count in counts.items()} for counts in said])


def combined(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts of several tables or ranks: sums; of what rounding cost the largest."""
    total: dict[str, int] = {}
    for name, count in (item for part in parts for item in part.items()):
        total[name] = max(total.get(name, 0), count) if name in LARGEST else total.get(name, 0) + count
    return total
