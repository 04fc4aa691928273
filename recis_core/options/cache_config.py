"""How the rows of a table larger than its device are spread over tiers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from numbers import Integral

from recis_core.options.cache_policy import Policy, policy_of
from recis_core.urls import local_path

PRECISIONS = ("same", "bf16", "fp16", "fp8", "int8", "int4")  # of rows below the device
SHARE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*%\s*")
LEAST_ROWS = 64  # of a tier whose size is a share of the table's rows
KINDS = {  # arguments that are whole numbers: unit, example, and alternative
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
    """Tiers of a table: the device, host memory, disk. Rows move between tiers with their slots and marks.

    Args:
      device_bytes, device_rows: the most that the device holds, with index and optimizer slots; give one of the two. Rows
        are a number, or a share of all rows of the table, such as "1%", but at least 64 rows.
      host_bytes, host_rows: the same for host memory. Neither: no bound, and no row goes to disk.
      disk: a directory, made if missing; each table and process uses a directory of its own inside. None: no third tier.
      disk_index_bytes: memory for the index of the rows on disk, 16 to 32 bytes a row. A larger index goes to a file on
        the disk, which is slower if the page cache does not hold the file. 0: in a file from the start. None: 3 GiB for
        each table. One or two bytes a row always stay in memory. Tables that share an engine's `cache` have equal parts.
      disk_mapped_bytes: how much of the disk's files a table keeps mapped; other rows are read by system calls, which are
        slower while the system has the files in memory. Mapped pages count as this process's memory; the system can take
        them back. None: 2 GiB for each table. Tables that share an engine's `cache` have equal parts.
      keep: True: the disk keeps the table's rows. An existing directory is opened with the rows of the engine's last
        `flush()`, for the same tables and optimizer, which must be attached first; filters and policies continue their
        counts. False: files without names, whose space is free again when the process ends in any way.
      policy: which rows leave first: "lru", "lfu" or "lfu(decay)", "ttl(seconds)", "lookahead", a custom Policy, or
        "none": rows never leave, and a full device raises TableFull. "lookahead" uses the batches of a Prefetcher; without
        a Prefetcher it is "lfu".
      prefetch: how many batches a Prefetcher without a depth reads ahead; no effect without a Prefetcher.
      host_precision, disk_precision: the form of weights in that tier: "same" as on the device, or bf16, fp16, fp8, int8,
        int4; the last three with a scale for each row. A row that returns is rounded; stats() has the error.
      host_slots, disk_slots: the same for optimizer slots as wide as the weights; other slots stay float32.

    Raises:
      ValueError: a number or text is invalid, or an argument needs another one.
      TypeError: an argument has a wrong type.
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
        """Checks types; makes whole numbers int, and the disk's path str."""
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
        precision = getattr(self, name)
        if precision not in PRECISIONS:
            raise ValueError(f"{name} must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
        if name.startswith("disk") and precision != "same" and self.disk is None:
            raise ValueError(f"{name} {precision!r} needs disk=DIR, the directory of the rows that are kept so.")


def _whole(name: str, size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, Integral):
        raise TypeError(f"{name} must be a whole number of {KINDS[name]}; got {size!r}.")
    return int(size)


def _path(disk: object) -> str:
    if not isinstance(disk, str | os.PathLike):
        raise TypeError(f"disk must be the path of a directory; got {disk!r}.")
    if not os.fspath(disk):
        raise ValueError("disk must be the path of a directory; got ''. None is no disk.")
    return str(local_path(disk, "disk"))


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
      ValueError: the text is no share.
    """
    match = SHARE.fullmatch(text)
    if match is None:
        raise ValueError(f"{name} must be a number, or a share of all rows as '1%'; got {text!r}.")
    if not 0 < float(match[1]) <= 100:
        raise ValueError(f"{name} must be a share above 0% and up to 100% of all rows, as '1%'; got {text!r}.")
    return float(match[1]) / 100


def rows_within(size: int | None, rows: int | str | None, row_bytes: int, table_rows: int) -> int | None:
    """The most rows that a tier holds; None for no bound.

    row_bytes: of one row in the tier, with its index entry. table_rows: rows of the table in all tiers.
    """
    if size is not None:
        return size // row_bytes
    if isinstance(rows, str):
        return max(LEAST_ROWS, int(share_of(rows) * table_rows))
    return rows
