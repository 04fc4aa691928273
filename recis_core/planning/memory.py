"""Bytes that a table takes on a rank: weights, optimizer slots, index.

Sizes: R rows, D dim, P ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from recis_core.backends.placement import WAYS, initial_buckets
from recis_core.options.sharding import Sharding
from recis_core.planning.cluster import Cluster
from recis_core.planning.model_file import ModelFile, TableSize
from recis_core.planning.unique_ids import Demand

INDEX_SLOT = 24  # key, row number, score and stamp: docs/placement.md
MOST_ROWS = 2**31 - 1  # row numbers are int32
FLOAT = 4


@dataclass(frozen=True)
class Footprint:
    """Bytes of one table.

    Args:
      mean, fullest: on a rank that holds some of it: as a mean, and on the one to which the hash gives most.
      owner: the only rank that holds any, or None for all ranks.
      rows: on the fullest rank.
    """

    mean: float
    fullest: float
    owner: int | None
    rows: int


def footprint(table: TableSize, sharding: Sharding, cluster: Cluster, residual: bool = False) -> Footprint:
    if sharding.kind != "row":
        dim = table.dim // cluster.world if sharding.kind == "column" else table.dim
        whole = _bytes(table, dim, table.rows, residual)
        return Footprint(whole, whole, sharding.owner, table.rows)
    hot = _bytes(table, table.dim, sharding.hot_rows, residual) if sharding.hot_rows else 0
    mean, fullest = -(-table.rows // cluster.world), fullest_rows(table.rows, cluster)
    sizes = [_bytes(table, table.dim, rows, residual) + hot for rows in (mean, fullest)]
    return Footprint(sizes[0], sizes[1], None, fullest + sharding.hot_rows)


def fullest_rows(rows: int, cluster: Cluster) -> int:
    """Rows on the rank with most, as the hash is expected to spread them: slices, then chance within them."""
    if cluster.world == 1:
        return rows
    deviation = math.sqrt(rows / cluster.world * (1 - 1 / cluster.world))
    return min(rows, math.ceil(rows * cluster.widest_share + cluster.excess * deviation))


def slot_bytes(table: TableSize, dim: int) -> int:
    """Optimizer slots of a row of `dim` columns; float32 whatever the weights are."""
    if table.optimizer in ("adam", "adamw", "adamwtf"):
        return FLOAT * 2 * dim
    return FLOAT * {"sgd": 0, "adagrad": dim, "rowwise_adagrad": 1}[table.optimizer]


def buffers(model: ModelFile, demands: list[Demand]) -> float:
    """Unique rows of a forward, and their gradients, in float32: what a rank holds of a step whatever the placement."""
    pairs = zip(model.tables, demands, strict=True)
    return sum(2 * FLOAT * table.dim * demand.unique for table, demand in pairs)


def _bytes(table: TableSize, dim: int, rows: int, residual: bool) -> float:
    weight = {"float32": 4, "bfloat16": 2}[table.dtype]
    row = weight * dim + slot_bytes(table, dim) + (FLOAT * dim if residual else 0)
    # Index slots come in powers of two, no fuller than three quarters.
    return rows * row + initial_buckets(rows) * WAYS * INDEX_SLOT
