"""Bytes that a table puts on the links in one optimizer step.

Three exchanges and an all-reduce: ids go from requesters to owners, rows come back, gradients go to
owners; gradients of replicated rows are all-reduced. Ids are deduplicated on each rank before they
travel, so an owner answers each rank once, however hot an id is. Only what leaves a rank counts.

Sizes: P ranks, U unique ids of a rank, G groups of ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recis_core.options.sharding import Sharding
from recis_core.planning.cluster import Cluster
from recis_core.planning.model_file import Precision, TableSize
from recis_core.planning.unique_ids import Demand
from recis_core.planning.wire import gradient_bytes, id_bytes, reduced_bytes, row_bytes

IDS, ROWS, GRADIENTS = range(3)


@dataclass(frozen=True)
class Flow:
    """What one table moves.

    Args:
      pair: bytes of ids, rows and gradients between a requester and an owner, float64 [3].
      owner: the only owner, or None for all ranks.
      reduced: bytes of the buffer that is all-reduced.
      drawn, hashed: Σ b²·q(1 − q) and Σ b²·q² over ids asked for with chance q, b bytes each, float64 [3]:
        why some owners have more to do than others; see `owner_variance`.
    """

    pair: np.ndarray
    owner: int | None
    reduced: float
    drawn: np.ndarray
    hashed: np.ndarray

    def of_a_requester(self, world: int) -> np.ndarray:
        """Bytes of ids, rows, gradients and all-reduce a rank moves off itself, mean over ranks, float64 [4]."""
        owners = world - 1 if self.owner is None else (world - 1) / world
        return np.append(owners * self.pair, 2 * (world - 1) / world * self.reduced)


@dataclass(frozen=True)
class Need:
    """One table, and how the ranks use it."""

    table: TableSize
    demand: Demand
    precision: Precision
    accumulate: int


def flow(need: Need, sharding: Sharding, cluster: Cluster) -> Flow:
    none = np.zeros(3)
    if sharding.kind == "replicated" or cluster.world == 1:
        rows = need.table.rows if cluster.world > 1 else 0
        return Flow(none, None, float(rows * reduced_bytes(need.precision, need.table.dim)), none, none)
    if sharding.kind == "column":
        return Flow(_column_bytes(need, cluster) * _asked(need, 0), None, 0.0, none, none)
    asked = _asked(need, sharding.hot_rows)
    if sharding.kind == "table":
        return Flow(_bytes(need, asked[IDS]) * asked, sharding.owner, 0.0, none, none)
    return _by_row(need, asked, sharding.hot_rows, cluster)


def owner_variance(drawn: np.ndarray, hashed: np.ndarray, partners: int, world: int) -> np.ndarray:
    """Of the bytes an owner exchanges with `partners` ranks: over the hash, which gives it an id with chance 1/P, and
    over draws, by which each rank asks for that id with chance q. float64 [3]."""
    return (partners * drawn + partners**2 * hashed * (1 - 1 / world)) / world


def _by_row(need: Need, asked: np.ndarray, hot_rows: int, cluster: Cluster) -> Flow:
    each = _bytes(need, asked[IDS] / cluster.world)
    cold, forward, step = need.demand.cold(hot_rows), need.demand.forward, need.demand.step
    drawn = np.array([(cold * q * (1 - q)).sum() for q in (forward, forward, step)])
    hashed = np.array([(cold * q**2).sum() for q in (forward, forward, step)])
    reduced = float(hot_rows * reduced_bytes(need.precision, need.table.dim))
    return Flow(each * asked / cluster.world, None, reduced, each**2 * drawn, each**2 * hashed)


def _asked(need: Need, hot_rows: int) -> np.ndarray:
    """U of ids, rows and gradients, without the hot rows."""
    cold = need.demand.cold(hot_rows)
    forward = (cold * need.demand.forward).sum()
    return np.array([forward, forward, (cold * need.demand.step).sum()])


def _bytes(need: Need, ids: float, dim: int | None = None) -> np.ndarray:
    """Of one id, row and gradient row, all of a step's forwards together, where `ids` go from a rank to another."""
    dim, precision = dim or need.table.dim, need.precision
    name = id_bytes(precision, need.table.id_bits, ids)
    gradient = gradient_bytes(precision, dim, need.accumulate)
    return np.array([need.accumulate * name, need.accumulate * row_bytes(precision.forward, dim), gradient])


def _column_bytes(need: Need, cluster: Cluster) -> np.ndarray:
    """Every rank sends its block of every row."""
    return _bytes(need, need.demand.unique, need.table.dim // cluster.world)
