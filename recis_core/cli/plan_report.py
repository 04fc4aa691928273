"""What `recis plan` shows: tables, ranks, links, and the step in one line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from recis_core.planning import Plan
from recis_core.planning.plan import RankPlan
from recis_core.planning.units import in_bytes, in_counts, in_seconds


def show(plan: Plan) -> None:
    console = Console()
    tables = [table for table in (_tables(plan), _ranks(plan), _links(plan)) if table.row_count]
    # A pipe counts as 80 columns, which would cut numbers off.
    whole = console.options.update(max_width=1000)
    console.width = max(console.width, *(Measurement.get(console, whole, table).maximum for table in tables))
    for table in tables:
        console.print(table)
    for line in _summary(plan):
        console.print(line, highlight=False, soft_wrap=True)


def _tables(plan: Plan) -> Table:
    title = f"{plan.model or 'the model'}: {in_counts(plan.parameters)} parameters on {plan.world} ranks"
    head = ("table", "rows", "dim", "sharding", "ranks", "a rank", "ids", "unique", "forward", "backward")
    table = _numbers(head, title, "a rank: memory; ids, unique: of a rank's forward; bytes off a rank in a step")
    for each in plan.tables:
        ranks = f"rank {each.sharding.owner}" if each.sharding.kind == "table" else str(each.ranks)
        counts = (in_counts(each.ids), in_counts(each.unique_ids))
        sizes = (in_bytes(each.forward_bytes), in_bytes(each.backward_bytes))
        where = (str(each.sharding), ranks, in_bytes(each.bytes_per_rank))
        table.add_row(each.name, in_counts(each.rows), str(each.dim), *where, *counts, *sizes)
    return table


def _ranks(plan: Plan) -> Table:
    table = _numbers(("rank", "memory", "of HBM", "sent", "received"), "Ranks", "traffic of a step, expected")
    for span, rank in _alike(plan.ranks):
        used = f"{rank.memory_bytes / plan.hbm_bytes:.0%}"
        traffic = (in_bytes(rank.sent_bytes), in_bytes(rank.received_bytes))
        table.add_row(span, in_bytes(rank.memory_bytes), used, *traffic)
    return table


def _alike(ranks: tuple[RankPlan, ...]) -> Iterator[tuple[str, RankPlan]]:
    """Consecutive ranks that show the same numbers, as one line."""
    for _, run in groupby(ranks, key=lambda r: tuple(map(in_bytes, (r.memory_bytes, r.sent_bytes, r.received_bytes)))):
        members = list(run)
        first, last = members[0].rank, members[-1].rank
        yield (str(first) if first == last else f"{first}–{last}"), members[0]


def _links(plan: Plan) -> Table:
    head = ("link", "GB/s", "pair forward", "pair backward", "rank forward", "rank backward")
    table = _numbers(head, "Links", "a step, one direction; the busiest pair, the busiest rank")
    for link in plan.links:
        pair, rank = (
            (in_bytes(forward), in_bytes(backward))
            for forward, backward in (
                (link.pair_forward_bytes, link.pair_backward_bytes),
                (link.rank_forward_bytes, link.rank_backward_bytes),
            )
        )
        table.add_row(link.link, f"{link.gb_per_s:g}", *pair, *rank)
    return table


def _summary(plan: Plan) -> Iterator[str]:
    imbalance = ", ".join(f"{name} {value:.3f}" for name, value in plan.imbalance.items())
    yield f"imbalance, fullest rank over mean: {imbalance}"
    phases = ", ".join(f"{name} {in_seconds(value)}" for name, value in plan.seconds.items() if value)
    if phases:
        yield f"communication of a step: {in_seconds(plan.step_seconds)} at full bandwidth ({phases})"
    if plan.all_by_row_seconds and any(str(sharding) != "row" for sharding in plan.shardings.values()):
        yield f"with every table by row: {in_seconds(plan.all_by_row_seconds)}"


def _numbers(head: tuple[str, ...], title: str, caption: str) -> Table:
    """A table whose columns after the first are numbers."""
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table
