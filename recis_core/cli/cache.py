"""The flags of tables in tiers, and sums of what a model's caches did."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

from pydantic.dataclasses import dataclass

from recis_core.backends.errors import RecisError
from recis_core.cli.flags import by_flag, flag, named, plain_errors
from recis_core.cli.outset import check_writable
from recis_core.nn import CacheConfig, HashTable
from recis_core.options.cache_config import PRECISIONS
from recis_core.planning.quantity import parse_bytes, parse_count

ARGUMENTS = "device_bytes|device_rows|host_bytes|host_rows|disk_index_bytes|disk_mapped_bytes"
# Of these the largest of all tables and ranks is reported; other counts are summed.
LARGEST = ("host_rounding_rms_millionths", "disk_rounding_rms_millionths")


@plain_errors
@dataclass(frozen=True, kw_only=True)
class CacheFlags:
    """Tables larger than their device."""

    device_rows: Annotated[str | None, named("cache_device_rows")] = None
    """Rows that each table keeps on the device, "100000" or a share of its rows, "1%", though 64 at least; the others lie
    in host memory and on disk. Default: all."""
    device_bytes: Annotated[str | None, named("cache_device_bytes")] = None
    """The same in bytes of all tables together, 512MB or 40GiB."""
    host_rows: Annotated[str | None, named("cache_host_rows")] = None
    """Rows that each table keeps in host memory; the others lie on disk. Default: all."""
    host_bytes: Annotated[str | None, named("cache_host_bytes")] = None
    """The same in bytes of all tables together."""
    disk: Annotated[str | None, named("cache_disk")] = None
    """Directory of the rows on disk: scratch, removed at the end. With --cache-host-rows or --cache-host-bytes."""
    disk_index_bytes: Annotated[str | None, named("cache_disk_index_bytes")] = None
    """Memory for the index of the rows on disk, 16 to 32 bytes a row, of all tables together, 8GiB; beyond it lies in a
    file there, and with 0 from the start. Default: 3 GiB for each table."""
    disk_mapped_bytes: Annotated[str | None, named("cache_disk_mapped_bytes")] = None
    """Of the files there, of all tables together, that stay mapped, 16GiB; rows of more are read by system calls, which
    take longer while the files are in memory. Default: 2 GiB for each table."""
    policy: Annotated[str | None, named("cache_policy")] = None
    """Which rows leave first: lfu, lfu(.97), lru, ttl(3600), lookahead, none. Default: lookahead with --prefetch,
    else lfu."""
    precision: Annotated[str | None, named("cache_precision")] = None
    """Weights off the device: same, bf16, fp16, fp8, int8 or int4; or two by comma, host memory and disk. Default:
    same."""

    def __post_init__(self) -> None:
        if self.device_rows is None and self.device_bytes is None:
            asked = [keyword for keyword, value in by_flag(self).items() if value is not None]
            if asked:
                said, verb = ", ".join(map(flag, asked)), "needs" if len(asked) == 1 else "need"
                raise ValueError(f"{said} {verb} --cache-device-rows or --cache-device-bytes, what the device keeps.")
        self.build(prefetch=0)

    def check_here(self) -> None:
        if self.disk is not None:
            check_writable("cache_disk", self.disk)

    def build(self, *, prefetch: int) -> CacheConfig | None:
        """None: tables stay on the device.

        prefetch: batches that are read ahead.
        """
        if self.device_rows is None and self.device_bytes is None:
            return None
        host, disk = self._precisions()
        usual = "lookahead" if prefetch else "lfu"
        with named_by_flags():
            return CacheConfig(
                device_bytes=self._bytes("device_bytes"),
                device_rows=self._rows("device_rows"),
                host_bytes=self._bytes("host_bytes"),
                host_rows=self._rows("host_rows"),
                disk=self.disk,
                disk_index_bytes=self._bytes("disk_index_bytes"),
                disk_mapped_bytes=self._bytes("disk_mapped_bytes"),
                policy=usual if self.policy is None else self.policy,
                prefetch=prefetch,
                host_precision=host,
                disk_precision=disk,
            )

    def _bytes(self, name: str) -> int | None:
        text, keyword = getattr(self, name), f"cache_{name}"
        try:
            return None if text is None else parse_bytes(text)
        except ValueError:
            rows = name.replace("_bytes", "_rows")
            share = "%" in text and hasattr(self, rows)
            way = f" A share of each table's rows is {flag(f'cache_{rows}')} {text}." if share else ""
            raise ValueError(
                f"{flag(keyword)} must be a size such as 512MB, 40GiB or 1e9; got {text!r}.{way}"
            ) from None

    def _rows(self, name: str) -> int | str | None:
        text = getattr(self, name)
        if text is None or text.strip().endswith("%"):
            return None if text is None else str(text)
        try:
            return parse_count(text)
        except ValueError:
            raise ValueError(
                f"{flag(f'cache_{name}')} must be a count such as 100000 or 40M, or a share of each table's rows as 1%; "
                f"got {text!r}."
            ) from None

    def _precisions(self) -> tuple[str, str]:
        """(in host memory, on disk)"""
        said = "same" if self.precision is None else self.precision
        each = [part.strip() for part in said.split(",")]
        if len(each) > 2 or "" in each:
            raise ValueError(
                "--cache-precision must be one precision, or two by comma as bf16,int8, host memory and disk; "
                f"got {said!r}."
            )
        if len(each) == 2 and self.disk is None:
            raise ValueError(f"--cache-precision {said} needs --cache-disk DIR, where the second one is used.")
        for part in each:
            if part not in PRECISIONS:
                raise ValueError(f"--cache-precision must be of {', '.join(PRECISIONS)}; got {part!r}.")
        return each[0], "same" if self.disk is None else each[-1]


@contextmanager
def named_by_flags() -> Iterator[None]:
    """Errors of caches inside name flags in place of CacheConfig's arguments."""
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


def cache_totals(tables: Iterable[HashTable]) -> dict[str, int]:
    """Of all storages, as `combined`; {} where none has a cache."""
    each = [physical.storage.tiers for physical in dict.fromkeys(table.physical for table in tables)]
    said = [tiers.summary() for tiers in each if tiers is not None]
    return combined([{name.removeprefix("cache_"): count for name, count in counts.items()} for counts in said])


def combined(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts of several tables or ranks: sums; of rounding errors the largest."""
    total: dict[str, int] = {}
    for name, count in (item for part in parts for item in part.items()):
        total[name] = max(total.get(name, 0), count) if name in LARGEST else total.get(name, 0) + count
    return total
