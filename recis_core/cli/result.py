"""The report at the end of a run: its test, and sums over ranks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import nn

from recis_core.cli.cache import cache_totals, combined
from recis_core.cli.exchange import ExchangeFlags
from recis_core.cli.measure import Measured
from recis_core.cli.source import Batch
from recis_core.exchange.gathering import gathered_json
from recis_core.framework import TrainLoop, evaluate
from recis_core.nn import HashTable, filter_out_sparse_param
from recis_core.serialize import tables_sha256


def final_result(
    flags: ExchangeFlags,
    test_batches: Iterable[Batch],
    model: nn.Module,
    loop: TrainLoop,
    world: int,
    measured: Measured,
) -> dict[str, Any]:
    """Collective."""
    exchanged = _total(loop, {} if loop.exchange is None else loop.exchange.stats())  # of training alone
    tables = filter_out_sparse_param(model)
    with measured.watching(model):
        result = dataclasses.asdict(evaluate(model, test_batches))
    more = measured.values(None if loop.exchange is None else loop.exchange.channel)
    return {
        "final": True,
        **result,
        **({"metrics": more} if more else {}),
        "steps": loop.step,
        "rows_per_s": loop.rows_per_s,
        "trained_rows": loop.trained_rows,
        "train_seconds": loop.seconds,
        "compile_seconds": loop.compile_seconds,
        "backend": next(iter(tables.values())).physical.backend.name,
        "table_rows": _total(loop, {"rows": _rows(tables.values(), loop.rank)})["rows"],
        "cache": combined(_of_ranks(loop, cache_totals(tables.values()))),
        "hooks": _total(loop, _hook_counts(tables.values())),
        "tables_sha256": tables_sha256(tables),
        "exchange": exchanged,
        **_between_ranks(flags, world),
    }


def _rows(tables: Iterable[HashTable], rank: int) -> int:
    """Rows on this rank; a replicated table's count on the first rank alone."""
    physical = {table.physical for table in tables if rank == 0 or not table.physical.replicated}
    return sum(table.counters().rows for table in physical)


def _hook_counts(tables: Iterable[HashTable]) -> dict[str, int]:
    """Ids admitted, rejected and evicted on this rank. Tables of one storage share admission, which counts once."""
    counts: Counter[str] = Counter()
    storages = set()
    for table in tables:
        stats = table.stats()
        mine = {n: c for n, c in stats.items() if n.startswith("evicted_by")}
        if table.physical not in storages:
            mine |= {n: stats[n] for n in ("admitted", "rejected", "counter_overflow") if n in stats}
        storages.add(table.physical)
        counts.update(mine)
    return dict(counts)


def _total(loop: TrainLoop, counts: dict[str, int]) -> dict[str, int]:
    """Sums over ranks. Collective."""
    total: Counter[str] = Counter()
    for each in _of_ranks(loop, counts):
        total.update(each)
    return dict(total)


def _of_ranks(loop: TrainLoop, counts: dict[str, int]) -> list[dict[str, int]]:
    """Each rank's. Collective."""
    return [counts] if loop.exchange is None else gathered_json(loop.exchange.channel, counts, kind="report")


def _between_ranks(flags: ExchangeFlags, world: int) -> dict[str, Any]:
    sharding = flags.read_sharding(world)
    said = {name: str(s) for name, s in sharding.items()} if isinstance(sharding, dict) else str(sharding)
    return {"world_size": world, "precision": str(flags.read_precision()), "sharding": said}
