"""recis predict: a saved run's scores of the rows of files."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
from pydantic.dataclasses import dataclass
from torch import nn

from recis_core.backends import select
from recis_core.cli import stopping, torchrun
from recis_core.cli.config import read_config
from recis_core.cli.flags import plain_errors
from recis_core.cli.outset import choose_backend
from recis_core.cli.saved_run import SavedRun, SavedRunFlags, batches_of, files_of
from recis_core.cli.score_file import Kept, check_out, written
from recis_core.cli.screen import rows_shown
from recis_core.cli.source import Batch
from recis_core.cli.taker import Taker
from recis_core.nn.coalesce import default_device
from recis_core.plain_torch import without_gradients


@plain_errors
@dataclass(frozen=True, kw_only=True)
class PredictConfig(SavedRunFlags):
    """Score the rows of files by a saved run: a Parquet file of one score a row, in their order. No label is needed."""

    out: str
    """The .parquet file to write, a path or a URL; whole or not at all."""
    keep_columns: tuple[str, ...] = ()
    """Columns of the files to write beside the scores, as they are."""
    score_column: str = "score"
    """The name of the scores, click probabilities, float32."""
    overwrite: bool = False
    """Replace --out where it is there."""


def run(argv: list[str]) -> int:
    with torchrun.flags_checked():
        config = read_config(PredictConfig, argv, "recis predict")
        if torchrun.launched():
            raise ValueError("recis predict is one process; start it without torchrun. A state of many ranks is fine.")
        check_out(config.out, config.overwrite)
    choose_backend(config.backend)
    stopping.current().done = "nothing was written"
    rows = predict(config, default_device(select(config.backend)))
    said = {"rows": rows, "out": config.out}
    print(json.dumps(said) if config.json else f"{rows:,} rows scored in {config.out}", flush=True)
    return 0


def predict(config: PredictConfig, device: str) -> int:
    """Writes the file; returns its rows."""
    saved, files = SavedRun(config.state), files_of(config.data)
    kept = Kept(files, config.keep_columns, config.score_column)
    batches = batches_of(saved, files, Taker(device=device), None, None, config.batch_size)
    model = saved.model(device, config.cache_disk)
    shown = rows_shown("scoring", not config.json)
    with written(config.out, kept.schema, config.overwrite) as writer, shown as show_rows:
        rows = 0
        for table in kept.beside(_scores(model, batches)):
            writer.write_table(table)
            show_rows(rows := rows + len(table))
    model.embeddings.close()  # type: ignore[operator, union-attr]
    return files.all_rows


def _scores(model: nn.Module, batches: Iterator[Batch]) -> Iterator[np.ndarray]:
    for batch in batches:
        yield _scored(model, batch)


@without_gradients
def _scored(model: nn.Module, batch: Batch) -> np.ndarray:
    """float32 [B]"""
    scores: np.ndarray = model(batch).sigmoid().float().cpu().numpy()
    return scores
