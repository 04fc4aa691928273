"""What `recis train` takes: one group of flags for each part, which is built from it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli.cache import CacheFlags
from recis_core.cli.data_flags import DataFlags
from recis_core.cli.exchange import ExchangeFlags
from recis_core.cli.flags import groups, plain_errors, takes_flags
from recis_core.cli.log import LogFlags
from recis_core.cli.measure import by_name
from recis_core.cli.model import HookFlags, ModelFlags
from recis_core.cli.optimizer import OptimizerFlags
from recis_core.cli.prefetch import PrefetchFlags
from recis_core.cli.resuming import StartFlags
from recis_core.cli.saving import CheckpointFlags


@takes_flags
@plain_errors
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a model with unbounded 64-bit ids, show progress, and report AUC on held-out rows.

    recis train [CONFIG.yaml] [--flag value ...]: a YAML file may give flags, by group or by name, and flags of the command line
    win. --print-config prints the whole config as such a file, and trains nothing.
    """

    data: DataFlags
    model: ModelFlags
    optimizer: OptimizerFlags
    hooks: HookFlags
    cache: CacheFlags
    prefetch: PrefetchFlags
    exchange: ExchangeFlags
    checkpoint: CheckpointFlags
    start: StartFlags
    log: LogFlags
    batch_size: Annotated[int, Field(ge=1)] = 2048
    """Rows of a batch; of all processes together, where torchrun starts several."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """Passes over the training rows."""
    steps: Annotated[int | None, Field(ge=1)] = None
    """Stop after so many steps in all; default: the epochs decide."""
    backend: Literal["auto", "torch", "numba", "jax", "pallas"] | None = None
    """Default: RECIS_BACKEND, else auto."""
    seed: int = 0
    """Of initial values, on both sides, and of a preset's samples."""

    def __post_init__(self) -> None:
        best, there = self.checkpoint.best, by_name(self.log.metrics)
        if best is not None and best.metric not in there:
            raise ValueError(
                f"--keep-best must name a metric of the test: {', '.join(there)}; got {best.metric!r}. --metrics adds more."
            )

    def rows_in_all(self, epoch: int) -> int:
        """Rows that training sees until it ends, where an epoch has so many."""
        if self.steps is None:
            return epoch * self.epochs
        whole, more = divmod(self.steps, -(-epoch // self.batch_size))
        return min(epoch * self.epochs, epoch * whole + self.batch_size * more)

    def check_here(self) -> None:
        """Finds before the run begins what would fail later on this machine, so that no hours are trained in vain.

        Raises:
          ValueError, OSError, ModuleNotFoundError, CorruptCheckpoint: as the part itself would.
        """
        for name in groups(TrainConfig):
            check = getattr(getattr(self, name), "check_here", None)
            if check is not None:
                check()
