"""Datasets of ORC files, as RecIS reads them."""

from typing import Any

from recis_core.compat.recis.alibaba import refuse
from recis_core.compat.recis.io.orc_dataset import OrcDataset

__all__ = ["OrcDataset"]


def __getattr__(name: str) -> Any:
    return refuse(__name__, name)
