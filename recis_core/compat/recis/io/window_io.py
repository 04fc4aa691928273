"""Windows of Alibaba's tables: the functions that make them raise when they are imported."""

from dataclasses import dataclass
from typing import Any

from recis_core.compat.recis.alibaba import refuse


@dataclass(frozen=True)
class TableSheet:
    """Rows start to end of a table."""

    table: str
    start: int
    end: int


def __getattr__(name: str) -> Any:
    return refuse(__name__, name)
