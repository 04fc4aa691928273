"""The error for a model that does not fit: how much memory is missing, and what would help."""

from __future__ import annotations

from dataclasses import replace

from recis_core.backends.errors import PlanDoesNotFit
from recis_core.options.sharding import Sharding
from recis_core.planning.cluster import SLICES, Cluster
from recis_core.planning.memory import MOST_ROWS, footprint
from recis_core.planning.model_file import ModelFile, TableSize
from recis_core.planning.search import Placement
from recis_core.planning.units import in_bytes

NAMED = 3  # largest tables in the message
DIM_WIDE = ("adam", "adamw", "adamwtf", "adagrad")  # optimizers with a slot as wide as a row, or two


def does_not_fit(model: ModelFile, placement: Placement, hbm: int, kept: float) -> PlanDoesNotFit:
    """The error. `kept` is what a rank keeps for other things than tables."""
    load = placement.load
    rank, world = int(load.memory.argmax()), load.cluster.world
    needed = float(load.memory[rank])
    lines = [
        f"{model.name or 'the model'} does not fit: its tables take {in_bytes(needed)} on rank {rank} of {world}, where "
        f"{in_bytes(max(0, hbm - kept))} are for tables ({in_bytes(hbm)} less {in_bytes(kept)} for the reserve and a "
        f"step's rows); {in_bytes(needed + kept - hbm)} are missing.",
        f"Largest there: {_largest(placement, rank)}.",
        *(f"Way out: {way}." for way in _ways_out(model, load.cluster, hbm - kept)),
    ]
    return PlanDoesNotFit("\n  ".join(lines))


def too_many_rows(table: TableSize, world: int, rows: int) -> PlanDoesNotFit:
    return PlanDoesNotFit(
        f"table {table.name} has {rows:,} rows on one of {world} ranks; a table holds 2^31 − 1 on a rank at most, for "
        f"row numbers are int32. Shard it by row over more than {table.rows // MOST_ROWS:,} ranks."
    )


def _largest(placement: Placement, rank: int) -> str:
    sizes = []
    for each, sharding in zip(placement.options, placement.shardings, strict=True):
        footprint = each.effect(sharding).footprint
        if footprint.owner in (None, rank):
            sizes.append((-footprint.fullest, each.need.table.name, sharding))
    return ", ".join(f"{name} {in_bytes(-size)} ({sharding})" for size, name, sharding in sorted(sizes)[:NAMED])


def _ways_out(model: ModelFile, cluster: Cluster, budget: float) -> list[str]:
    fixed = [table.name for table in model.tables if table.sharding not in (None, "row")]
    thin = [replace(table, dtype="bfloat16") for table in model.tables]
    lean = [replace(t, optimizer="rowwise_adagrad") if t.optimizer in DIM_WIDE else t for t in model.tables]
    ways = [
        _with_more_ranks(model, cluster, budget),
        _changed("bfloat16 storage (dtype)", model, thin, cluster, budget),
        _changed("rowwise_adagrad for adam and adagrad (optimizer)", model, lean, cluster, budget),
        f"leave the sharding of {', '.join(fixed[:NAMED])} open" if fixed else "",
        "a host or disk tier below the tables (CacheConfig); a plan counts all rows in one memory",
    ]
    return [way for way in ways if way]


def _with_more_ranks(model: ModelFile, cluster: Cluster, budget: float) -> str:
    """The least whole number of nodes on which everything by row fits."""
    low, high = cluster.nodes, SLICES // cluster.per_node
    if _by_row(model, _sized(cluster, high)) > budget:
        return ""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _by_row(model, _sized(cluster, middle)) <= budget else (middle + 1, high)
    more = low * cluster.per_node
    return f"{more:,} ranks, with all tables sharded by row" if more > cluster.world else ""


def _sized(cluster: Cluster, nodes: int) -> Cluster:
    return replace(cluster, world=nodes * cluster.per_node)


def _changed(what: str, model: ModelFile, tables: list[TableSize], cluster: Cluster, budget: float) -> str:
    """What a change of the tables saves, sharded by row."""
    then = _by_row(replace(model, tables=tuple(tables)), cluster)
    saved = _by_row(model, cluster) - then
    if saved <= 0:
        return ""
    enough = "enough by itself" if then <= budget else "not enough by itself"
    return f"{what} saves {in_bytes(saved)} a rank, {enough}"


def _by_row(model: ModelFile, cluster: Cluster) -> float:
    """Bytes on the fullest rank with every table sharded by row."""
    precisions = [table.precision or model.precision for table in model.tables]
    pairs = zip(model.tables, precisions, strict=True)
    return sum(footprint(table, Sharding(), cluster, p.forward_residual).fullest for table, p in pairs)
