"""recis train."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import tyro

from recis_core.backends import select
from recis_core.cli.build import build_model, build_optimizer, read_sharding
from recis_core.cli.cache import cache_totals, combined, named_by_flags
from recis_core.cli.flags import flag
from recis_core.cli.report import JsonReport, Report, ScreenReport, SilentReport
from recis_core.cli.source import Batch, Source, Taker, open_source
from recis_core.cli.tensorboard import TensorBoardReport
from recis_core.cli.torchrun import process_group
from recis_core.cli.train_config import TrainConfig
from recis_core.exchange import Precision
from recis_core.exchange.gathering import gathered_json
from recis_core.framework import TrainLoop, evaluate
from recis_core.nn import EmbeddingEngine, HashTable, Prefetcher, filter_out_sparse_param
from recis_core.serialize import (
    SavedState,
    latest_shared_state,
    latest_state,
    save_shared_state,
    save_state,
    tables_sha256,
)
from recis_core.serialize.parts import naming, part_of_state
from recis_core.serialize.shared_state import failing_together
from recis_core.table.coalesce import default_device

RESUMABLE = ("model", "preset", "data", "label", "dim", "batch_size", "optimizer", "seed", "rows", "test_fraction")


def run(argv: list[str]) -> int:
    config = tyro.cli(TrainConfig, args=argv, prog="recis train")
    if config.backend is not None:
        os.environ["RECIS_BACKEND"] = config.backend
    report: Report = JsonReport() if config.json else ScreenReport()
    train(config, report if config.tensorboard is None else TensorBoardReport(report, config.tensorboard))
    return 0


def train(config: TrainConfig, report: Report) -> dict[str, Any]:
    """Train and evaluate as the config says; returns the final report line.

    In a process group, or under torchrun, as one of its ranks; the first one reports.
    """
    device = default_device(select(config.backend))
    with process_group(device) as (rank, world):
        return _train(config, report if rank == 0 else SilentReport(), Taker(rank, world, device))


def _train(config: TrainConfig, report: Report, taker: Taker) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    source = open_source(config, taker)
    model = build_model(config, source, taker.world).to(taker.device)
    loop = TrainLoop(
        model, build_optimizer(config, model), log_every=config.log_every, on_log=report.log,
        evict_every=None if config.evict is None else config.evict_every,
    )  # fmt: skip
    if config.resume is not None:
        _resume(config, loop)
    with report.training(source.train_rows * config.epochs, loop), named_by_flags():
        _train_epochs(config, source, loop)
    if config.save is not None:
        _save(config, loop)
    final = _final(source, model, loop) | _between_ranks(config, taker.world)
    report.final(final)
    _engine(loop).close()
    return final


def _train_epochs(config: TrainConfig, source: Source, loop: TrainLoop) -> None:
    loop.begin()
    while loop.epoch < config.epochs and (config.steps is None or loop.step < config.steps):
        for batch in _batches(config, source, loop):
            loop.train_step(batch, min(config.batch_size, source.train_rows - loop.rows_in_epoch))
            if config.save_every is not None and loop.step % config.save_every == 0:
                _save(config, loop)
            if loop.step == config.steps:
                loop.flush_log()
                return
        loop.end_epoch()
    loop.flush_log()


def _batches(config: TrainConfig, source: Source, loop: TrainLoop) -> Iterator[Batch]:
    """The rest of the epoch, its rows fetched ahead as the config says."""
    batches = source.train_batches(config.batch_size, first_row=loop.rows_in_epoch)
    model: Any = loop.model
    engine, threads = _engine(loop), config.prefetch_threads
    return iter(Prefetcher(engine, batches, config.prefetch, threads=threads, features=model.sparse_features))


def _engine(loop: TrainLoop) -> EmbeddingEngine:
    model: Any = loop.model
    engine: EmbeddingEngine = model.embeddings
    return engine


def _save(config: TrainConfig, loop: TrainLoop) -> None:
    settings = {name: getattr(config, name) for name in RESUMABLE}
    shared = {"settings": settings, **loop.shared_state()}
    if loop.exchange is None:
        save_state(str(config.save), loop.step, shared | loop.own_state())
    else:
        save_shared_state(str(config.save), loop.step, shared, loop.own_state(), loop.exchange)


def _latest(config: TrainConfig, loop: TrainLoop) -> Path | None:
    try:
        if loop.exchange is None:
            return latest_state(str(config.resume))
        return latest_shared_state(str(config.resume), loop.exchange)
    except FileNotFoundError:
        if config.resume_if_any:
            return None
        raise


def _resume(config: TrainConfig, loop: TrainLoop) -> None:
    path = _latest(config, loop)
    if path is None:
        return
    with failing_together(loop.exchange):
        state = SavedState(path)
        _check_settings(config, state)
    loop.load_state(state)
    for group in loop.optimizer.param_groups:
        group["lr"] = group["lr"] if config.lr is None else config.lr


def _check_settings(config: TrainConfig, state: SavedState) -> None:
    saved = part_of_state(state, "settings")
    with naming(state, "settings"):
        settings = {name: saved[name] for name in RESUMABLE}
    for name, value in settings.items():
        if value != getattr(config, name):
            raise ValueError(
                f"the saved run had {flag(name)} {value}; this one has {getattr(config, name)}. Resume with the same."
            )


def _final(source: Source, model: torch.nn.Module, loop: TrainLoop) -> dict[str, Any]:
    exchanged = _total(loop, {} if loop.exchange is None else loop.exchange.stats())  # of training alone
    tables = filter_out_sparse_param(model)
    result = dataclasses.asdict(evaluate(model, source.test_batches()))
    return {
        "final": True,
        **result,
        "steps": loop.step,
        "rows_per_s": loop.rows_per_s,
        "backend": next(iter(tables.values())).physical.backend.name,
        "table_rows": _total(loop, {"rows": _rows(tables.values(), loop.rank)})["rows"],
        "cache": combined(_of_ranks(loop, cache_totals(tables.values()))),
        "hooks": _total(loop, _hook_counts(tables.values())),
        "tables_sha256": tables_sha256(tables),
        "exchange": exchanged,
    }


def _rows(tables: Iterable[HashTable], rank: int) -> int:
    """Of a replicated table the first rank's count."""
    physical = {table.physical for table in tables if rank == 0 or not table.physical.replicated}
    return sum(table.counters().rows for table in physical)


def _hook_counts(tables: Iterable[HashTable]) -> dict[str, int]:
    """What was admitted, rejected and evicted here: ids without a row count once a storage and forward."""
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
    """Everyone's. Collective."""
    return [counts] if loop.exchange is None else gathered_json(loop.exchange.world, counts, kind="report")


def _between_ranks(config: TrainConfig, world: int) -> dict[str, Any]:
    sharding = read_sharding(config.sharding, world)
    said = {name: str(s) for name, s in sharding.items()} if isinstance(sharding, dict) else str(sharding)
    return {"world_size": world, "precision": str(Precision.parse(config.precision)), "sharding": said}
