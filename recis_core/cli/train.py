"""recis train."""

from __future__ import annotations

from typing import Any

import torch

from recis_core.backends import select
from recis_core.cli import stopping, torchrun
from recis_core.cli.build import build_model, build_optimizer
from recis_core.cli.cache import named_by_flags
from recis_core.cli.config import read_config
from recis_core.cli.flags import by_flag
from recis_core.cli.measure import Measured, asked
from recis_core.cli.outset import choose_backend
from recis_core.cli.report import Display, Report, SilentReport, counted, display
from recis_core.cli.result import final_result
from recis_core.cli.resuming import begin
from recis_core.cli.saving import Saver, new_run
from recis_core.cli.source import Source, open_source
from recis_core.cli.stopping import Ending, Stopped
from recis_core.cli.taker import Taker
from recis_core.cli.train_config import TrainConfig
from recis_core.framework import TrainLoop
from recis_core.nn.coalesce import default_device


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
    loop = TrainLoop(
        model, build_optimizer(config, model), log_every=config.log.every, on_log=report.log,
        evict_every=config.hooks.steps_between,
    )  # fmt: skip
    run, settings = new_run(source.features(), config.data.fingerprint()), by_flag(config)
    begin(config.start, loop, run, settings)
    saver = Saver(config.checkpoint, loop, run, settings, resumed=config.start.resume is not None)
    _train_and_save(config, source, loop, report, saver, ending)
    with ending.noting(loop.exchange is not None), report.evaluating() as show_rows:
        test = counted(ending.read(source.test_batches(), loop.exchange), show_rows)
        final = final_result(config.exchange, test, model, loop, taker.world, Measured(asked(config.log.metrics)))
        ending.check(loop.exchange)
    report.final(final)
    model.embeddings.close()  # type: ignore[operator, union-attr]
    return final


def _train_and_save(
    config: TrainConfig, source: Source, loop: TrainLoop, report: Report, saver: Saver, ending: Ending
) -> None:
    """Raises Stopped after the last save, where a signal ended training."""
    with ending.noting():
        try:
            with report.training(config.rows_in_all(source.train_rows), loop), named_by_flags():
                _train_epochs(config, source, loop, saver, ending)
        finally:
            ending.done = saver.said
        saver.save()
        ending.done = saver.said
    ending.check(loop.exchange)


def _train_epochs(config: TrainConfig, source: Source, loop: TrainLoop, saver: Saver, ending: Ending) -> None:
    loop.begin()
    try:
        while loop.epoch < config.epochs and (config.steps is None or loop.step < config.steps):
            batches = source.train_batches(config.batch_size, first_row=loop.rows_in_epoch)  # the rest of the epoch
            for batch in ending.read(config.prefetch.build(loop.model, batches), loop.exchange):
                loop.train_step(batch, min(config.batch_size, source.train_rows - loop.rows_in_epoch))
                saver.after_step()
                if loop.step == config.steps:
                    break
            else:
                loop.end_epoch()
    except Stopped:
        if ending.hurried:
            raise
    loop.flush_log()
