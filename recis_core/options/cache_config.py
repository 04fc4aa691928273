"""How a table that is larger than its device is spread over tiers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

from recis_core.options.cache_policy import Policy, policy_of

PRECISIONS = ("same", "bf16", "fp16", "fp8", "int8", "int4")  # of rows below the device
SHARE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*%\s*")
LEAST_ROWS = 64  # of a tier whose rows are a share of the table's
KINDS = {  # of arguments that are whole numbers: what each counts, and its other forms
    "device_bytes": "bytes, as 8 << 30; a share of the table's rows is device_rows='1%'",
    "device_rows": "rows, or a share of the table's as '1%'",
    "host_bytes": "bytes, as 64 << 30; a share of the table's rows is host_rows='10%'",
    "host_rows": "rows, or a share of the table's as '10%'",
    "disk_index_bytes": "bytes, as 3 << 30",
    "disk_mapped_bytes": "bytes, as 2 << 30",
    "prefetch": "batches",
}


@dataclass(frozen=True)
class CacheConfig:
    """Tiers of a table: the device, host memory, disk. Rows move between them with their slots and marks.

    Args:
      device_bytes, device_rows: the bound of the device, with its index and optimizer slots; give one of the two. Rows are a
        number, or a share of the table's rows, as "1%", and at least 64.
      host_bytes, host_rows: the bound of host memory. Neither: no bound, and nothing goes to disk.
      disk: a directory, made if need be. Each table and process has its own rows there. None: no third tier.
      disk_index_bytes: of memory for the index of rows on disk, 16 to 32 a row. A larger index moves to a file there, which is
        slower once the page cache does not hold it; 0 starts there. One or two bytes a row stay in memory always. None: 3
        GiB a table. Tables that share an engine's `cache` get equal parts.
      disk_mapped_bytes: of the disk's files that a table keeps mapped. Larger disks are read by system calls, which are
        slower where the page cache has the files. Mapped pages count as this process's memory, and the system may take
        them back. None: 2 GiB a table. Tables that share an engine's `cache` get equal parts.
      keep: rows on disk outlive the process: an existing directory is opened as the engine's last `flush()` left it, for the
        same tables and optimizer, which must be attached first; filters and policies count on from there. False: scratch,
        files without names, whose space comes back when the process ends in any way.
      policy: which rows leave first: "lru", "lfu" or "lfu(decay)", "ttl(seconds)", "lookahead", a Policy of your own, or
        "none": nothing leaves, and a full device raises TableFull. "lookahead" needs a Prefetcher; without one it is "lfu".
      prefetch: the depth, in batches, of a Prefetcher that is not given one.
      host_precision, disk_precision: how weights are kept there: "same" as on the device, or bf16, fp16, fp8, int8, int4,
        a scale a row for the last three. Rows then come back rounded; stats() has by how much.
      host_slots, disk_slots: the same of optimizer slots as wide as the weights; the others stay float32.

    Raises:
      ValueError: a number or text is none of these, or an argument means nothing without another one.
      TypeError: an argument is of another kind.
    """

    device_bytes: int | None = None
    device_rows: int | str | None = None
    host_bytes: int | None = None
    host_rows: int | str | None = None
    disk: str | os.PathLike[str] | None = None
    disk_index_bytes: int | None = None
    disk_mapped_bytes: int | None = None
    keep: bool = False
    policy: str | Policy = "lfu"
    prefetch: int = 0
    host_precision: str = "same"
    disk_precision: str = "same"
    host_slots: str = "same"
    disk_slots: str = "same"

    def __post_init__(self) -> None:
        self._check_kinds()
        _one_bound("device", self.device_bytes, self.device_rows, least=1)
        _one_bound("host", self.host_bytes, self.host_rows, least=0)
        if self.device_bytes is None and self.device_rows is None:
            raise ValueError("a cache needs device_bytes or device_rows; without a bound there is nothing to move.")
        if self.disk is not None and self.host_bytes is None and self.host_rows is None:
            raise ValueError("disk=DIR needs host_bytes or host_rows: host memory without a bound never goes there.")
        if self.keep and self.disk is None:
            raise ValueError("keep needs disk=DIR, the directory that is kept.")
        self._check_bound_of_disk("disk_index_bytes", "whose index it bounds", "keeps the index on disk")
        self._check_bound_of_disk("disk_mapped_bytes", "whose files it bounds", "maps none for reads")
        if self.prefetch < 0:
            raise ValueError(f"prefetch must be at least 0 batches; got {self.prefetch}.")
        for name in ("host_precision", "disk_precision", "host_slots", "disk_slots"):
            self._check_precision(name)
        policy_of(self.policy)

    def _check_kinds(self) -> None:
        """Whole numbers as int, the disk as str."""
        for name in KINDS:
            size = getattr(self, name)
            if size is not None and not (isinstance(size, str) and name in ("device_rows", "host_rows")):
                object.__setattr__(self, name, _whole(name, size))
        if self.prefetch is None:
            raise TypeError("prefetch must be a whole number of batches; got None. 0 reads none ahead.")
        if not isinstance(self.keep, bool):
            raise TypeError(f"keep must be True or False; got {self.keep!r}.")
        if self.disk is not None:
            object.__setattr__(self, "disk", _path(self.disk))

    def _check_bound_of_disk(self, name: str, bounds: str, at_zero: str) -> None:
        size = getattr(self, name)
        if size is not None and self.disk is None:
            raise ValueError(f"{name} needs disk=DIR, the directory {bounds}.")
        if size is not None and size < 0:
            raise ValueError(f"{name} must be at least 0, which {at_zero}; got {size}.")

    def _check_precision(self, name: str) -> None:
        said = getattr(self, name)
        if said not in PRECISIONS:
            raise ValueError(f"{name} must be one of {', '.join(PRECISIONS)}; got {said!r}.")
        if name.startswith("disk") and said != "same" and self.disk is None:
            raise ValueError(f"{name} {said!r} needs disk=DIR, the directory of the rows that are kept so.")


def _whole(name: str, size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, Integral):
        raise TypeError(f"{name} must be a whole number of {KINDS[name]}; got {size!r}.")
    return int(size)


def _path(disk: object) -> str:
    if not isinstance(disk, str | os.PathLike):
        raise TypeError(f"disk must be the path of a directory; got {disk!r}.")
    if not os.fspath(disk):
        raise ValueError("disk must be the path of a directory; got ''. None is no disk.")
    return str(Path(disk))


def _one_bound(tier: str, size: int | None, rows: int | str | None, *, least: int) -> None:
    if size is not None and rows is not None:
        raise ValueError(f"give {tier}_bytes or {tier}_rows, not both; got {size} and {rows!r}.")
    if size is not None and size < least:
        raise ValueError(f"{tier}_bytes must be at least {least}; got {size}.")
    if isinstance(rows, str):
        share_of(rows, f"{tier}_rows")
    elif rows is not None and rows < least:
        raise ValueError(f"{tier}_rows must be at least {least}; got {rows}.")


def share_of(text: str, name: str = "rows") -> float:
    """ "1%" as .01.

    Raises:
      ValueError: it is no share.
    """
    match = SHARE.fullmatch(text)
    if match is None:
        raise ValueError(f"{name} must be a number, or a share of all rows as '1%'; got {text!r}.")
    if not 0 < float(match[1]) <= 100:
        raise ValueError(f"{name} must be a share above 0% and up to 100% of all rows, as '1%'; got {text!r}.")
    return float(match[1]) / 100


def rows_within(size: int | None, rows: int | str | None, row_bytes: int, table_rows: int) -> int | None:
    """Rows that a tier holds at most; None for no bound.

    row_bytes: of one row there, index included. table_rows: rows the table has in all tiers.
    """
    if size is not None:
        return size // row_bytes
    if isinstance(rows, str):
        return max(LEAST_ROWS, int(share_of(rows) * table_rows))
    return rows
