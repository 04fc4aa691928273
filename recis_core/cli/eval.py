"""recis eval: how well a saved run predicts the rows of files."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from pydantic.dataclasses import dataclass

from recis_core.backends import select
from recis_core.cli import stopping, torchrun
from recis_core.cli.config import read_config
from recis_core.cli.flags import plain_errors
from recis_core.cli.measure import Measured, asked, group_columns, in_words
from recis_core.cli.outset import choose_backend
from recis_core.cli.report import counted
from recis_core.cli.saved_run import SavedRun, SavedRunFlags, batches_of, files_of
from recis_core.cli.screen import rows_shown
from recis_core.cli.taker import Taker
from recis_core.framework import evaluate
from recis_core.nn.coalesce import default_device
from recis_core.nn.hash_table import exchange_of


@plain_errors
@dataclass(frozen=True, kw_only=True)
class EvalConfig(SavedRunFlags):
    """Evaluate a saved run on files: AUC and log loss. The model is built as it was trained."""

    label: str | None = None
    """The label column; default: that of the run."""
    truth: str | None = None
    """A column of true click probabilities, whose AUC is reported beside."""
    metrics: tuple[str, ...] = ()
    """More metrics: logloss, ne, calibration, ece, rmse, and gauc, ndcg@10, recall@10, hit@10, mrr with a column of groups, as
    gauc:user_id; several by comma."""

    def __post_init__(self) -> None:
        asked(self.metrics)


def run(argv: list[str]) -> int:
    with torchrun.flags_checked():
        config = read_config(EvalConfig, argv, "recis eval")
    choose_backend(config.backend)
    stopping.current().done = "nothing was evaluated"
    device = default_device(select(config.backend))
    with torchrun.process_group(device) as (rank, world):
        found = _evaluation(config, Taker(rank, world, device))
    if rank == 0:
        print(json.dumps(found) if config.json else _words(found), flush=True)
    return 0


def _evaluation(config: EvalConfig, taker: Taker) -> dict[str, Any]:
    saved, files = SavedRun(config.state), files_of(config.data)
    batches = batches_of(
        saved,
        files,
        taker,
        config.label or saved.label,
        config.truth,
        config.batch_size,
        group_columns(asked(config.metrics)),
    )
    model, ending = saved.model(taker.device, config.cache_disk), stopping.current()
    exchange = exchange_of(model)
    shown = rows_shown("evaluating", not config.json and taker.rank == 0)
    measured = Measured(asked(config.metrics))
    with ending.noting(exchange is not None), shown as show_rows, measured.watching(model):
        found = evaluate(model, counted(ending.read(batches, exchange), show_rows))
        more = measured.values(None if exchange is None else exchange.channel)
        ending.check(exchange)
    model.embeddings.close()  # type: ignore[operator, union-attr]
    return {
        "state": str(saved.path),
        "step": saved.state.step,
        **_plain(dataclasses.asdict(found)),
        **({"metrics": more} if more else {}),
    }


def _plain(numbers: dict[str, Any]) -> dict[str, Any]:
    """With null for nan, which JSON lacks."""
    return {name: None if isinstance(x, float) and math.isnan(x) else x for name, x in numbers.items()}


def _words(found: dict[str, Any]) -> str:
    auc = "none, for all labels are alike" if found["auc"] is None else f"{found['auc']:.4f}"
    said = f"{found['rows']:,} rows, step {found['step']}: AUC {auc}, log loss {found['logloss']:.4f}"
    said += "" if found["bayes_auc"] is None else f", Bayes AUC {found['bayes_auc']:.4f}"
    return ", ".join([said, *in_words(found.get("metrics", {}))])
