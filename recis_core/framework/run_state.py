"""What a checkpoint keeps of a run, equal on all ranks: counts, the latest evaluation, the scaler, hooks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from recis_core.framework.hook_calls import HookCalls
from recis_core.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from recis_core.framework.trainer import Trainer

LOG = logging.getLogger(__name__)
COUNTS = ("step", "rows", "epoch", "window", "epoch_in_window", "mid_epoch")  # attributes of a Trainer


class RunState:
    """Hooks get their state by their class, in order; that of a hook which is gone is left out with a warning."""

    def __init__(self, run: Trainer, hooks: HookCalls, scaler: torch.amp.GradScaler | None) -> None:
        self._run, self._hooks, self._scaler = run, hooks, scaler

    def state_dict(self) -> dict[str, Any]:
        return {
            "progress": {name: getattr(self._run, name) for name in COUNTS},
            "evaluated": {"step": self._run.measured_at, "metrics": dict(self._run.last_metrics)},
            "scaler": {} if self._scaler is None else self._scaler.state_dict(),
            "hooks": self._hooks.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError, having changed nothing, if the counts are damaged; and what a hook raises."""
        counts, evaluated = checked_counts(state.get("progress")), state["evaluated"]
        lost = self._hooks.load_state_dict(state["hooks"])
        if lost:
            LOG.warning("this run has no %s, whose state the checkpoint holds.", ", ".join(lost))
        with uninterrupted():
            if self._scaler is not None and state["scaler"]:
                self._scaler.load_state_dict(dict(state["scaler"]))
            vars(self._run).update(counts)
            self._run.measured_at, self._run.last_metrics = evaluated["step"], dict(evaluated["metrics"])


def checked_counts(counts: Any) -> dict[str, int]:
    """Raises ValueError unless they are COUNTS."""
    fits = isinstance(counts, Mapping) and set(counts) == set(COUNTS)
    if not fits or not all(type(n) is int and 0 <= n < 2**63 for n in counts.values()):
        raise ValueError(f"progress must be counts {', '.join(COUNTS)}; got {str(counts)[:200]}.")
    return dict(counts)
