"""Where a step's time goes on the sparse side: seconds inside lookups, their backward, the exchange, and updates of rows."""

from __future__ import annotations

import time
from typing import Any

from torch import nn

from recis_core.optim import SparseOptimizer

PHASES = ("lookup", "lookup backward", "exchange", "update of rows")


class SparseClock:
    """seconds: {phase: so far}. Watches an engine's forward, the autograd node that it makes, and a sparse optimizer's step."""

    def __init__(self, engine: nn.Module, optimizer: SparseOptimizer) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._began = 0.0
        engine.register_forward_pre_hook(self._begin)
        engine.register_forward_hook(self._looked_up)
        optimizer.register_step_pre_hook(self._begin)
        optimizer.register_step_post_hook(lambda *_: self.end("update of rows"))

    def _begin(self, *_: Any) -> None:
        self._began = time.perf_counter()

    begin = _begin

    def end(self, phase: str) -> None:
        self.seconds[phase] += time.perf_counter() - self._began

    def _looked_up(self, engine: nn.Module, given: Any, found: Any) -> None:
        self.end("lookup")
        node = next(iter(found.values())).values().grad_fn
        node.register_prehook(self._begin)
        node.register_hook(lambda *_: self.end("lookup backward"))
