"""What the tiers of one table did."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recis_core.table.tiers.device_tier import DeviceTier
    from recis_core.table.tiers.lower_tiers import LowerTiers

NAMES = (
    "occurrences", "occurrence_hits", "hits_device", "hits_host", "hits_disk", "read_early", "new", "overflowed", "evicted",
    "written_back", "written_to_host", "written_to_disk", "spilled", "erased",
    "bytes_from_host", "bytes_to_host", "bytes_from_disk", "bytes_to_disk",
)  # fmt: skip
FOUND = ("hits_device", "hits_host", "hits_disk", "new")
ON_DEVICE, IN_HOST, ON_DISK, NOWHERE = range(len(FOUND))


class CacheStats:
    """Counts since the table was made; HashTable.stats() has each as cache_…, a whole number.

    occurrences, occurrence_hits      ids of training calls, and those whose row was on the device when its call came, or
                                      was staged; without ids that an admit_hook gives no row
    hits_device, hits_host, hits_disk unique keys a training call, by where they were found then; new: nowhere
    read_early                        of hits_disk, read ahead of their call
    overflowed                        keys of a call that found no room on the device beside the others
    evicted, written_back             rows that left the device, and those of them that had changed or were new
    written_to_host, written_to_disk  rows, each time they are written
    spilled                           rows that left host memory
    erased                            rows that were erased, or replaced by a load
    bytes_from_host, bytes_to_host, bytes_from_disk, bytes_to_disk
                                      of rows, over each link
    stall_ms                          milliseconds that training waited for a Prefetcher; here stall_seconds

    And what there is now:

    device_rows, device_capacity      rows on the device, and those that it has room for
    host_rows, host_bytes             in host memory: rows, and what blocks of rows and their index take
    disk_rows                         keys on disk
    disk_bytes                        of files of rows: disk_live_bytes of what keys lead to, disk_dead_bytes of the rest,
                                      which compaction takes back
    disk_segments, disk_tombstones    those files, and marks in them of keys that were erased
    disk_compactions, disk_flushes    until now; and disk_bytes_read, disk_bytes_written, those of compaction included
    disk_index_memory_bytes           of the disk's index in memory; disk_index_disk_bytes in its file
    host_rounding_rms_millionths, disk_rounding_rms_millionths
                                      root mean square of what fewer bits have changed in what was written there, weights
                                      and slots, in 1e-6 of their own unit; 0 where precision is "same"

    Tables that share storage, as those of equal options do, share its counts: each table shows all of them.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(NAMES, 0))
        self.stall_seconds = 0.0

    def count(self, name: str, by: int) -> None:
        self.counts[name] += by

    def count_keys(self, counts: np.ndarray, found: np.ndarray, times: int = 1) -> None:
        """A training call's keys: how often each occurs, and where it was, ON_DEVICE, IN_HOST, …; int [U] both."""
        for name, keys in zip(FOUND, np.bincount(found, minlength=len(FOUND)), strict=True):
            self.count(name, times * int(keys))
        self.count("occurrences", times * int(counts.sum()))
        self.count("occurrence_hits", times * int(counts[found == ON_DEVICE].sum()))

    def read(self, tier: str, rows: int, row_bytes: int) -> None:
        self.counts[f"bytes_from_{tier}"] += rows * row_bytes

    def wrote(self, tier: str, rows: int, row_bytes: int) -> None:
        self.counts[f"written_to_{tier}"] += rows
        self.counts[f"bytes_to_{tier}"] += rows * row_bytes

    @property
    def hit_rate(self) -> float:
        """Share of occurrences whose row was on the device."""
        occurrences = self.counts["occurrences"]
        return self.counts["occurrence_hits"] / occurrences if occurrences else 0.0


def summary(stats: CacheStats, device: DeviceTier, lower: LowerTiers) -> dict[str, int]:
    """Counts and sizes of a table, by their names in HashTable.stats()."""
    named = {name: stats.counts[name] for name in sorted(stats.counts)}
    named |= {
        "stall_ms": round(1e3 * stats.stall_seconds),
        "device_rows": len(device),
        "device_capacity": device.capacity,
    }
    named |= {f"host_{name}": count for name, count in lower.host.stats().items()}
    if lower.disk is not None:
        named |= {f"disk_{name.removeprefix('disk_')}": count for name, count in lower.disk.stats().items()}
    for tier, row_format in (("host", lower.host_format), ("disk", lower.disk_format)):
        named[f"{tier}_rounding_rms_millionths"] = row_format.rounding.rms_millionths
    return {f"cache_{name}": count for name, count in named.items()}
