"""The report at the end of a run: its test, and sums over ranks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

from recis_core.channel.channel import Channel
from recis_core.cli.cache import cache_totals, combined
from recis_core.cli.exchange import ExchangeFlags
from recis_core.cli.measure import Measured
from recis_core.cli.source import Batch
from recis_core.exchange.gathering import gathered_json
from recis_core.framework import Trainer, evaluate
from recis_core.framework.training_log import TrainingLog
from recis_core.nn import HashTable, filter_out_sparse_param
from recis_core.nn.hash_table import exchange_of
from recis_core.serialize import tables_sha256


def final_result(
    flags: ExchangeFlags,
    test_batches: Iterable[Batch],
    trainer: Trainer,
    log: TrainingLog,
    measured: Measured,
) -> dict[str, Any]:
    """Collective."""
    model, exchange = trainer.model, exchange_of(trainer.model)
    channel = None if exchange is None else exchange.channel
    exchanged = _total(channel, {} if exchange is None else exchange.stats())  # of training alone
    tables = filter_out_sparse_param(model)
    with measured.watching(model):
        result = dataclasses.asdict(evaluate(model, test_batches))
    more = measured.values(channel)
    return {
        "final": True,
        **result,
        **({"metrics": more} if more else {}),
        "steps": trainer.step,
        "rows_per_s": log.rows_per_s,
        "trained_rows": log.trained_rows,
        "train_seconds": log.seconds,
        "compile_seconds": log.compile_seconds,
        "backend": next(iter(tables.values())).physical.backend.name,
        "table_rows": _total(channel, {"rows": _rows(tables.values(), trainer.rank)})["rows"],
        "cache": combined(_of_ranks(channel, cache_totals(tables.values()))),
        "hooks": _total(channel, _hook_counts(tables.values())),
        "tables_sha256": tables_sha256(tables),
        "exchange": exchanged,
        **_between_ranks(flags, trainer.world),
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


def _total(channel: Channel | None, counts: dict[str, int]) -> dict[str, int]:
    """Sums over ranks. Collective."""
    total: Counter[str] = Counter()
    for each in _of_ranks(channel, counts):
        total.update(each)
    return dict(total)


def _of_ranks(channel: Channel | None, counts: dict[str, int]) -> list[dict[str, int]]:
    """Each rank's. Collective."""
    return [counts] if channel is None else gathered_json(channel, counts, kind="report")


def _between_ranks(flags: ExchangeFlags, world: int) -> dict[str, Any]:
    sharding = flags.read_sharding(world)
    said = {name: str(s) for name, s in sharding.items()} if isinstance(sharding, dict) else str(sharding)
    return {"world_size": world, "precision": str(flags.read_precision()), "sharding": said}
