"""The placement search: every table by row at first, then one change at a time while one pays.

Deterministic: tables in order of their traffic, options in a fixed order, the first of equals wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recis_core.options.sharding import Sharding
from recis_core.planning.cluster import Cluster
from recis_core.planning.load import Load
from recis_core.planning.options import Options

WORTH = 0.02  # a change must save this share of what its table's communication takes; else the simpler sharding stays
SWEEPS = 20
SWAPPED = 32  # tables, at most, for which a swap of memory is tried


@dataclass
class Placement:
    """A sharding for each table, and what they add up to."""

    options: list[Options]
    shardings: list[Sharding]
    load: Load

    @classmethod
    def first(cls, options: list[Options], cluster: Cluster) -> Placement:
        """The one that takes least memory, fixed shardings aside."""
        placement = cls(options, [each.first for each in options], Load(cluster))
        for each, sharding in zip(options, placement.shardings, strict=True):
            placement.load.add(each.effect(sharding))
        return placement

    def change(self, table: int, to: Sharding) -> Sharding:
        """Returns what it was."""
        before = self.shardings[table]
        self.load.add(self.options[table].effect(before), -1)
        self.load.add(self.options[table].effect(to))
        self.shardings[table] = to
        return before

    def summed_anew(self) -> Placement:
        """The same, without the rounding of many changes."""
        fresh = Placement(self.options, list(self.shardings), Load(self.load.cluster))
        for each, sharding in zip(self.options, self.shardings, strict=True):
            fresh.load.add(each.effect(sharding))
        return fresh


class Search:
    """Finds a placement of little communication in `budget` bytes a rank."""

    def __init__(self, placement: Placement, budget: float) -> None:
        self.placement, self.budget = placement, budget
        self._refused = False  # whether memory stood in the way of an option

    def run(self) -> Placement:
        """The placement it was given must fit."""
        self._greedy()
        for _ in range(SWEEPS):
            self._refused = False
            moved = [self._improve(table) for table in self._busiest_first()]
            if not any(moved) and not (self._refused and self._swap()):
                break
        return self.placement.summed_anew()

    def fits(self) -> bool:
        return bool(self.placement.load.memory.max() <= self.budget)

    def assign_open_owners(self) -> None:
        """Largest first, each to the rank with most memory left."""
        options = self.placement.options
        open_owners = [t for t, each in enumerate(options) if each.first.kind == "table" and each.fixed is None]
        for table in sorted(open_owners, key=lambda t: -options[t].effect(options[t].first).footprint.fullest):
            self.placement.change(table, Sharding("table", self._owners(table)[0]))

    def _greedy(self) -> None:
        """Changes that cost memory, those first that save most time for a byte."""
        offers = []
        for table in range(len(self.placement.options)):
            before, memory = self._cost(), self.placement.load.memory.max()
            best = self._best(table)
            if best is None:
                continue
            was = self.placement.change(table, best)
            bytes_more = max(1.0, self.placement.load.memory.max() - memory)
            offers.append((-(before - self._cost()) / bytes_more, table, best))
            self.placement.change(table, was)
        for _, table, best in sorted(offers, key=lambda offer: offer[:2]):
            self._take_if_better(table, best)

    def _improve(self, table: int) -> bool:
        best = self._best(table)
        if best is not None:
            self.placement.change(table, best)
        return best is not None

    def _best(self, table: int) -> Sharding | None:
        """The option that saves most and fits; None if none is worth a change."""
        now, found = self.placement.shardings[table], None
        least = self._cost() - self._worth(table)
        for option in self.placement.options[table].shardings(self._owners(table)):
            if option == now:
                continue
            self.placement.change(table, option)
            if not self.fits():
                self._refused = True
            elif self._cost() < least:
                least, found = self._cost(), option
            self.placement.change(table, now)
        return found

    def _take_if_better(self, table: int, to: Sharding) -> bool:
        before, cost, worth = self.placement.shardings[table], self._cost(), self._worth(table)
        self.placement.change(table, to)
        if self.fits() and self._cost() < cost - worth:
            return True
        self.placement.change(table, before)
        return False

    def _swap(self) -> bool:
        """One table back to where it takes least memory, so that another may take more: the first pair that pays."""
        movable = [t for t in self._busiest_first() if self.placement.options[t].fixed is None][:SWAPPED]
        for giver in movable:
            first = self.placement.options[giver].first
            if self.placement.shardings[giver] == first:
                continue
            cost, was = self._cost(), self.placement.change(giver, first)
            for taker in movable:
                before = self.placement.shardings[taker]
                best = self._best(taker) if taker != giver else None
                if best is not None:
                    self.placement.change(taker, best)
                    if self._cost() < cost - self._worth(taker):
                        return True
                    self.placement.change(taker, before)
            self.placement.change(giver, was)
        return False

    def _owners(self, table: int) -> list[int]:
        """Ranks to try as owner: that with most memory left and that with least to answer, the table itself aside."""
        load, now = self.placement.load, self.placement.options[table].effect(self.placement.shardings[table])
        memory, answers = load.memory.copy(), load.owned.sum(0)
        if now.flow.owner is not None:
            memory[now.flow.owner] -= now.footprint.fullest
            answers[now.flow.owner] -= now.flow.pair.sum()
        return list(dict.fromkeys([int(np.argmin(memory)), int(np.argmin(answers))]))

    def _busiest_first(self) -> list[int]:
        pairs = zip(self.placement.options, self.placement.shardings, strict=True)
        world = self.placement.load.cluster.world
        asked = [each.effect(sharding).flow.of_a_requester(world) for each, sharding in pairs]
        return sorted(range(len(asked)), key=lambda t: (-asked[t].sum(), t))

    def _worth(self, table: int) -> float:
        """Seconds that a change of the table must save."""
        load, now = self.placement.load, self.placement.options[table].effect(self.placement.shardings[table])
        cost = self._cost()
        load.add(now, -1)
        alone = cost - self._cost()
        load.add(now)
        return max(WORTH * alone, 1e-9 * cost)

    def _cost(self) -> float:
        return self.placement.load.step_seconds()
