"""Metrics as log lines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from recis_core.compat.recis.hooks.hook import Hook
from recis_core.compat.recis.utils.logger import Logger


class LoggerHook(Hook):
    """Each log_step-th step, the first among them: `<gstep=…> <lstep=…> <qps=…> <name=value> …`; qps is steps a second."""

    def __init__(self, log_step: int = 10) -> None:
        self.log_step, self.steps, self.start_time = log_step, 0, time.time()
        self.logger = Logger("Metric")

    def format_metrics(self, metrics: Mapping[str, Any]) -> str:
        return "".join(f" <{name}={value}>" for name, value in metrics.items())

    def after_step(self, metrics: Mapping[str, Any], global_step: Any = 0, **kwargs: Any) -> None:
        if self.steps % self.log_step == 0:
            qps = self.log_step / max(time.time() - self.start_time, 1e-9)
            head = f"<gstep={global_step}> <lstep={self.steps}> <qps={qps:.4f}>"
            self.logger.info("%s%s", head, self.format_metrics(metrics))
            self.start_time = time.time()
        self.steps += 1
