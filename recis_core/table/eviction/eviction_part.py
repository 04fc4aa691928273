"""A filter's memory as part of a saved state."""

from __future__ import annotations

from typing import Any

from recis_core.table.eviction.eviction import Eviction


class EvictionPart:
    of_gradients = False

    def __init__(self, eviction: Eviction) -> None:
        self.eviction = eviction

    def saved(self) -> dict[str, Any]:
        return self.eviction.state()

    def aside(self) -> EvictionAside:
        return EvictionAside(self.eviction)


class EvictionAside:
    """Another hook's memory is dropped."""

    def __init__(self, eviction: Eviction) -> None:
        self.eviction, self.new = eviction, Eviction(eviction.hook, eviction.spread)

    def take(self, saved: Any) -> None:
        self.new.load_state(saved)

    def merge(self, saved: Any, ordinals: dict[int, int]) -> None:
        self.new.load_state(saved, moved=True)

    def commit(self) -> None:
        self.eviction.filter.load_state(self.new.filter.state())
