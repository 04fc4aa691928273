"""What the tiers of one table did."""

from __future__ import annotations

from collections import Counter


class CacheStats:
    """Counts by name; unique keys a call, but for `occurrences` and `occurrence_hits`, and bytes."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
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
        """Share of occurrences whose row was on the device when its call came."""
        asked = self.counts["occurrences"]
        return self.counts["occurrence_hits"] / asked if asked else 0.0
