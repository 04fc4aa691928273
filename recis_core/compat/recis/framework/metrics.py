"""Metrics of the process by name, which the Trainer adds to each step's."""

from __future__ import annotations

from typing import Any

GLOBAL_METRICS: dict[str, Any] = {}


def add_metric(name: str, metric: Any) -> None:
    """Set a metric."""
    GLOBAL_METRICS[name] = metric


def get_global_metrics() -> dict[str, Any]:
    """All metrics that were set: the dict itself."""
    return GLOBAL_METRICS
