"""recis train."""

from __future__ import annotations

from typing import Any

import torch

from recis_core.backends import select
from recis_core.cli import stopping, torchrun
from recis_core.cli.build import build_model
from recis_core.cli.cache import named_by_flags
from recis_core.cli.config import read_config
from recis_core.cli.flags import by_flag
from recis_core.cli.measure import Measured, asked
from recis_core.cli.outset import choose_backend
from recis_core.cli.report import Display, Report, SilentReport, counted, display
from recis_core.cli.result import final_result
from recis_core.cli.resuming import begin
from recis_core.cli.saved_states import SavedStates
from recis_core.cli.saving import Told, new_run
from recis_core.cli.source import open_source
from recis_core.cli.taker import Taker
from recis_core.cli.train_config import TrainConfig
from recis_core.cli.training import build_trainer
from recis_core.framework import Trainer
from recis_core.framework.training_log import TrainingLog
from recis_core.nn.coalesce import default_device
from recis_core.nn.hash_table import exchange_of


def run(argv: list[str]) -> int:
    with torchrun.flags_checked():
        config = read_config(TrainConfig, argv, "recis train", {"preset": "tiny"})
        config.check_here()
    choose_backend(config.backend)
    train(config, config.log.build())
    return 0


def train(config: TrainConfig, report: Report) -> dict[str, Any]:
    """Train and evaluate as the config says; returns the final report line.

    In a process group, or under torchrun, as one of its ranks; the first one reports.

    Raises:
      stopping.Stopped: under `recis`, a signal ended the run after the step under way, which is saved if --save is given.
    """
    device = default_device(select(config.backend))
    with torchrun.process_group(device) as (rank, world):
        return _train(config, display(report) if rank == 0 else SilentReport(), Taker(rank, world, device))


def _train(config: TrainConfig, report: Display, taker: Taker) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    ending = stopping.current()
    ending.done = "nothing was trained"
    report.note(
        f"{config.model.name} on {config.data.preset or config.data.files}, tables by {select(config.backend).name}"
    )
    source = open_source(config, taker)
    model = build_model(config, source, taker.world).to(taker.device)
    run, settings = new_run(source.features(), config.data.fingerprint()), by_flag(config)
    saved, told = SavedStates(config.checkpoint), {"settings": Told(settings), "origin": Told(run)}
    trainer, log = build_trainer(config, source, model, saved, told, report.log)
    begin(config.start, trainer, run, settings)
    saved.claim(trainer, run["id"], resumed=config.start.resume is not None)
    _train_and_save(config.rows_in_all(source.train_rows), trainer, log, report, saved)
    exchange = exchange_of(model)
    with ending.noting(exchange is not None), report.evaluating() as show_rows:
        test = counted(ending.read(source.test_batches(), exchange), show_rows)
        final = final_result(config.exchange, test, trainer, log, Measured(asked(config.log.metrics)))
        ending.check(exchange)
    report.final(final)
    model.embeddings.close()  # type: ignore[operator, union-attr]
    return final


def _train_and_save(rows: int, trainer: Trainer, log: TrainingLog, report: Report, saved: SavedStates) -> None:
    """Raises Stopped after the last save, where a signal ended training."""
    ending = stopping.current()
    with ending.noting():
        try:
            with report.training(rows, log), named_by_flags():
                trainer.train()
        finally:
            ending.done = saved.said(trainer.step)
