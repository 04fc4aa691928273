"""A finished plan: every number that `recis plan` shows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from recis_core.options.sharding import Sharding
from recis_core.planning.cluster import Cluster
from recis_core.planning.load import Load
from recis_core.planning.memory import MOST_ROWS, buffers
from recis_core.planning.model_file import ModelFile, TableSize
from recis_core.planning.options import Options
from recis_core.planning.search import Placement, Search
from recis_core.planning.shortage import does_not_fit, too_many_rows
from recis_core.planning.traffic import GRADIENTS, IDS, ROWS, Need
from recis_core.planning.unique_ids import demand


@dataclass(frozen=True)
class TablePlan:
    """One table. Bytes of traffic are a step's, off the rank, mean over ranks."""

    name: str
    rows: int
    dim: int
    sharding: Sharding
    ranks: int
    bytes_per_rank: float
    """On the fullest of the ranks that hold it."""
    ids: float
    """Occurrences that one rank has in one forward."""
    unique_ids: float
    """Different ones among them."""
    forward_bytes: float
    backward_bytes: float


@dataclass(frozen=True)
class RankPlan:
    """One rank. Bytes sent and received are a step's, expected."""

    rank: int
    memory_bytes: float
    sent_bytes: float
    received_bytes: float


@dataclass(frozen=True)
class LinkPlan:
    """One kind of link. Bytes are a step's in one direction: of the busiest pair of ranks, and of the busiest rank."""

    link: str
    gb_per_s: float
    pair_forward_bytes: float
    pair_backward_bytes: float
    rank_forward_bytes: float
    rank_backward_bytes: float


@dataclass(frozen=True)
class Plan:
    """A placement, and what it is predicted to take."""

    model: str
    world: int
    ranks_per_node: int
    hbm_bytes: int
    parameters: int
    kept_bytes: float
    """Of each rank: the reserve, and a step's rows and gradients."""
    tables: tuple[TablePlan, ...]
    ranks: tuple[RankPlan, ...]
    links: tuple[LinkPlan, ...]
    imbalance: dict[str, float]
    """Of memory and of traffic: the fullest rank, as expected, over the mean."""
    seconds: dict[str, float]
    """Of each exchange of a step; bandwidth only."""
    step_seconds: float
    all_by_row_seconds: float | None
    """What a step's communication takes with every table sharded by row; None where that does not fit."""

    @property
    def shardings(self) -> dict[str, Sharding]:
        return {table.name: table.sharding for table in self.tables}

    def as_json(self) -> dict[str, Any]:
        tree = dataclasses.asdict(self)
        for table, planned in zip(tree["tables"], self.tables, strict=True):
            table["sharding"] = str(planned.sharding)
        return tree


def make_plan(model: ModelFile, world: int, hbm: int) -> Plan:
    """Place the model's tables on `world` ranks of `hbm` bytes.

    Raises:
      PlanDoesNotFit: no placement fits; the message says what is missing, and what would help.
      ValueError: a fixed sharding, a measured feature or the world cannot be.
    """
    cluster = Cluster.of(world, model.links)
    needs = [_need(model, table) for table in model.tables]
    options = [Options(need, cluster) for need in needs]
    kept = model.reserve + buffers(model, [need.demand for need in needs])
    placement = _placed(model, options, cluster, hbm, kept)
    load = placement.load
    by_row = _all_by_row(options, cluster)
    return Plan(
        model=model.name,
        world=world,
        ranks_per_node=cluster.per_node,
        hbm_bytes=hbm,
        parameters=model.parameters,
        kept_bytes=kept,
        tables=tuple(_table(each, s, world) for each, s in zip(options, placement.shardings, strict=True)),
        ranks=_ranks(load, kept),
        links=_links(load),
        imbalance={"memory": _memory_imbalance(load), "traffic": _traffic_imbalance(load)},
        seconds=load.seconds(),
        step_seconds=load.step_seconds(),
        all_by_row_seconds=by_row.step_seconds() if by_row.memory.max() + kept <= hbm else None,
    )


def _need(model: ModelFile, table: TableSize) -> Need:
    asked = demand(table, model.batch_size, model.accumulate)
    return Need(table, asked, table.precision or model.precision, model.accumulate)


def _placed(model: ModelFile, options: list[Options], cluster: Cluster, hbm: int, kept: float) -> Placement:
    first = Placement.first(options, cluster)
    for each, sharding in zip(options, first.shardings, strict=True):
        rows = each.effect(sharding).footprint.rows
        if rows > MOST_ROWS:
            raise too_many_rows(each.need.table, cluster.world, rows)
    search = Search(first, hbm - kept)
    search.assign_open_owners()
    if not search.fits():
        raise does_not_fit(model, first, hbm, kept)
    return search.run()


def _all_by_row(options: list[Options], cluster: Cluster) -> Load:
    load = Load(cluster)
    for each in options:
        load.add(each.effect(Sharding()))
    return load


def _table(options: Options, sharding: Sharding, world: int) -> TablePlan:
    table, effect = options.need.table, options.effect(sharding)
    ids, rows, gradients, reduced = map(float, effect.flow.of_a_requester(world))
    return TablePlan(
        name=table.name,
        rows=table.rows,
        dim=table.dim,
        sharding=sharding,
        ranks=1 if sharding.kind == "table" else world,
        bytes_per_rank=effect.footprint.fullest,
        ids=options.need.demand.ids,
        unique_ids=options.need.demand.unique,
        forward_bytes=ids + rows,
        backward_bytes=gradients + reduced,
    )


def _ranks(load: Load, kept: float) -> tuple[RankPlan, ...]:
    reduced = sum(load.cluster.reduce_bytes(load.reduced))
    sent, received = (near + far for near, far in zip(*(load.sent_and_received(link) for link in (0, 1)), strict=True))
    rows = zip((load.memory + kept).tolist(), (sent.sum(0) + reduced), (received.sum(0) + reduced), strict=True)
    return tuple(RankPlan(rank, *map(float, row)) for rank, row in enumerate(rows))


def _links(load: Load) -> tuple[LinkPlan, ...]:
    cluster = load.cluster
    named = (("intra-node", cluster.intra, cluster.near), ("inter-node", cluster.inter, cluster.far))
    return tuple(_link(load, link, *each) for link, each in enumerate(named) if each[2])


def _link(load: Load, link: int, name: str, speed: float, partners: int) -> LinkPlan:
    sent, received = load.sent_and_received(link)
    excess, reduced = load.excess()[link], load.cluster.reduce_bytes(load.reduced)[link]
    forward = max(sent[:GRADIENTS].sum(0).max() + excess[ROWS], received[:GRADIENTS].sum(0).max() + excess[IDS])
    backward = max(sent[GRADIENTS].max(), received[GRADIENTS].max() + excess[GRADIENTS])
    pair_forward, pair_backward = load.busiest_pair(link)
    return LinkPlan(
        link=name,
        gb_per_s=speed / 1e9,
        pair_forward_bytes=pair_forward,
        pair_backward_bytes=pair_backward + reduced / partners,
        rank_forward_bytes=float(forward),
        rank_backward_bytes=float(backward + reduced),
    )


def _memory_imbalance(load: Load) -> float:
    return float(load.memory.max() / load.mean_memory.mean())


def _traffic_imbalance(load: Load) -> float:
    """Of what owners exchange, all phases together, and all-reduces, which are even."""
    near, far = load.of_owners()
    owners = (near + far).sum(0)
    even = sum(load.cluster.reduce_bytes(load.reduced))
    mean = owners.mean() + even
    return float((owners.max() + load.excess().sum() + even) / mean) if mean else 1.0
