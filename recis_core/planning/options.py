"""The shardings a table may have, and what each would add."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from recis_core.options.sharding import Sharding
from recis_core.planning.cluster import Cluster
from recis_core.planning.load import Effect
from recis_core.planning.memory import MOST_ROWS, footprint
from recis_core.planning.traffic import Need, flow
from recis_core.planning.wire import gradient_bytes, id_bytes, reduced_bytes, row_bytes

HOT_STEPS = (10, 100, 1_000, 10_000)


class Options:
    """One table's shardings with their effects, each worked out once."""

    def __init__(self, need: Need, cluster: Cluster) -> None:
        self.need, self.cluster = need, cluster
        self._effects: dict[Sharding, Effect] = {}
        fixed = need.table.sharding
        self.fixed = None if fixed in (None, "table") else Sharding.parse(str(fixed))
        self._open_owner = fixed == "table"
        if self.fixed is not None:
            self._check_fixed(self.fixed)

    def effect(self, sharding: Sharding) -> Effect:
        if sharding not in self._effects:
            residual = self.need.precision.forward_residual
            size = footprint(self.need.table, sharding, self.cluster, residual)
            self._effects[sharding] = Effect(flow(self.need, sharding, self.cluster), size)
        return self._effects[sharding]

    @property
    def first(self) -> Sharding:
        """What the search begins with: as fixed, else the one that takes least memory."""
        return Sharding("table", 0) if self._open_owner else self.fixed or Sharding()

    def shardings(self, owners: list[int]) -> list[Sharding]:
        """All to be tried, simple ones first; whole tables on `owners` only."""
        whole = [Sharding("table", owner) for owner in owners]
        if self.fixed is not None or self.cluster.world == 1:
            return [self.first]
        if self._open_owner:
            return self._possible(whole)
        column = [Sharding("column")] if self.need.table.dim % self.cluster.world == 0 else []
        hot = [Sharding("row", hot_rows=rows) for rows in self._hot_rows]
        return self._possible([Sharding(), *hot, *whole, *column, Sharding("replicated")])

    def _possible(self, shardings: list[Sharding]) -> list[Sharding]:
        return [each for each in shardings if self.effect(each).footprint.rows <= MOST_ROWS]

    @cached_property
    def _hot_rows(self) -> list[int]:
        best = self._best_hot_rows()
        tried = {*(rows for rows in HOT_STEPS if rows < best), best}
        return sorted(rows for rows in tried if 0 < rows <= self.need.table.rows // 2)

    def _best_hot_rows(self) -> int:
        """Rows that keep the links busier when they travel, on average, than when they are all-reduced.

        On many nodes an all-reduce crosses between nodes once a node, an exchange once a rank: there it pays early.
        """
        need, cluster = self.need, self.cluster
        demand, precision, dim = need.demand, need.precision, need.table.dim
        name = id_bytes(precision, need.table.id_bits, demand.unique / cluster.world)
        asked = need.accumulate * (name + row_bytes(precision.forward, dim)) * demand.forward
        travels = asked + gradient_bytes(precision, dim, need.accumulate) * demand.step
        seconds = travels * max(cluster.near / cluster.intra, cluster.far / cluster.inter) / cluster.world
        pays = seconds > cluster.reduce_seconds(reduced_bytes(precision, dim))
        return int(demand.edges[int(np.sum(pays))]) - 1

    def _check_fixed(self, fixed: Sharding) -> None:
        table, world = self.need.table, self.cluster.world
        fixed_at = f"table {table.name}: sharding {fixed} is fixed"
        if fixed.owner is not None and fixed.owner >= world:
            raise ValueError(f"{fixed_at}, but owner {fixed.owner} is none of {world} ranks; they count from 0.")
        if fixed.kind == "column" and table.dim % world:
            raise ValueError(f"{fixed_at}, but dim {table.dim} has no {world} equal blocks of columns.")
        if fixed.hot_rows > table.rows:
            raise ValueError(f"{fixed_at}, but it has {table.rows:,} rows only.")
