"""Numbers by step in TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Scalars:
    """Writes numbers as "<group>/<name>" into a directory.

    Args:
      wanted_by: what to name in the error where tensorboard is missing. purge_step: TensorBoard hides what the directory
        holds of this step and later ones; None hides nothing.

    Raises:
      ModuleNotFoundError: tensorboard is not installed; the message says how to.
    """

    def __init__(self, directory: str, *, wanted_by: str, purge_step: int | None = None) -> None:
        self._writer = summary_writer(wanted_by)(directory, purge_step=purge_step)

    def add(self, group: str, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def summary_writer(wanted_by: str) -> Any:
    """TensorBoard's class.

    Raises:
      ModuleNotFoundError: it is not installed; the message names `wanted_by` and says how to install it.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{wanted_by} needs {error.name}, which is not installed: pip install 'recis-core[tensorboard]'."
        ) from error
    return SummaryWriter
