"""Alibaba's MaxCompute: its names raise when they are imported."""

from typing import Any

from recis_core.compat.recis.alibaba import refuse


def __getattr__(name: str) -> Any:
    return refuse(__name__, name)
