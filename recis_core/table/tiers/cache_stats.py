"""What the tiers of one table did."""

from __future__ import annotations

from collections import Counter

NAMES = (
    "occurrences", "occurrence_hits", "hits_device", "hits_host", "hits_disk", "read_early", "new", "overflowed", "evicted",
    "written_back", "written_to_host", "written_to_disk", "spilled",
    "bytes_from_host", "bytes_to_host", "bytes_from_disk", "bytes_to_disk",
)  # fmt: skip


class CacheStats:
    """Counts since the table was made.

    occurrences, occurrence_hits   ids asked for in training, and those whose row was on the device when its call came,
                                   or was staged
    hits_device, _host, _disk      unique keys a call, by where they were found; new: nowhere
    read_early                     of hits_disk, read ahead of their call
    overflowed                     keys of a call that found no room on the device beside the others
    evicted, written_back          rows that left the device, and those of them that had changed
    spilled                        rows that left host memory
    bytes_from_host, …             over each link
    stall_seconds                  that training waited for a Prefetcher
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(NAMES, 0))
        self.stall_seconds = 0.0

    def count(self, name: str, by: int) -> None:
        self.counts[name] += by

    def read(self, tier: str, rows: int, row_bytes: int) -> None:
        self.counts[f"hits_{tier}"] += rows
        self.counts[f"bytes_from_{tier}"] += rows * row_bytes

    def wrote(self, tier: str, rows: int, row_bytes: int) -> None:
        self.counts[f"written_to_{tier}"] += rows
        self.counts[f"bytes_to_{tier}"] += rows * row_bytes

    @property
    def hit_rate(self) -> float:
        """Share of occurrences whose row was on the device."""
        asked = self.counts["occurrences"]
        return self.counts["occurrence_hits"] / asked if asked else 0.0
