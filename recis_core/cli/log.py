"""The flags of what `recis train` shows and writes while it trains."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli.flags import named, plain_errors
from recis_core.cli.measure import asked, group_columns
from recis_core.cli.outset import check_writable
from recis_core.cli.report import Display, JsonReport
from recis_core.cli.screen import text_report
from recis_core.cli.tensorboard import WANTED_BY, TensorBoardReport
from recis_core.hooks.scalars import summary_writer


@plain_errors
@dataclass(frozen=True, kw_only=True)
class LogFlags:
    """What is shown."""

    every: Annotated[int, Field(ge=1), named("log_every")] = 10
    """Steps between log lines."""
    tensorboard: str | None = None
    """Directory for TensorBoard: loss, AUC, rows/s and what the cache did."""
    json: bool = False
    """One JSON object a logged step, of what TensorBoard gets, and a last one; in place of the progress bar and all else."""

    metrics: tuple[str, ...] = ()
    """More metrics of the test: logloss, ne, calibration, ece, rmse, and gauc, ndcg@10, recall@10, hit@10, mrr with a column of
    groups, as gauc:user_id; several by comma."""

    def __post_init__(self) -> None:
        asked(self.metrics)

    @property
    def groups(self) -> list[str]:
        """Columns of the metrics' groups."""
        return group_columns(asked(self.metrics))

    def check_here(self) -> None:
        if self.tensorboard is not None:
            check_writable("tensorboard", self.tensorboard)
            summary_writer(WANTED_BY)

    def build(self) -> Display:
        report: Display = JsonReport() if self.json else text_report()
        return report if self.tensorboard is None else TensorBoardReport(report, self.tensorboard)
