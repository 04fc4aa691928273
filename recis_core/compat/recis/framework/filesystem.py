"""File systems of Alibaba's stores: its names raise when they are imported."""

from typing import Any

from recis_core.compat.recis.absent import refuse_name


def __getattr__(name: str) -> Any:
    return refuse_name(__name__, name)
