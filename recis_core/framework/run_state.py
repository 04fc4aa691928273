"""What a checkpoint keeps of a run beside model, optimizer, schedules and data: counts, random numbers, hooks, metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from recis_core.framework.hook_calls import HookCalls
from recis_core.framework.named_metrics import NamedMetrics
from recis_core.framework.random_state import check_random_state, random_state, set_random_state
from recis_core.framework.ranks import Ranks
from recis_core.framework.state_by_rank import gather_states, state_of
from recis_core.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from recis_core.framework.trainer import Trainer

LOG = logging.getLogger(__name__)


COUNTS = ("step", "rows", "epoch", "window", "epoch_in_window", "mid_epoch")  # attributes of a Trainer


def checked_counts(counts: Any) -> dict[str, int]:
    """Raises ValueError unless they are COUNTS."""
    fits = isinstance(counts, Mapping) and set(counts) == set(COUNTS)
    if not fits or not all(type(n) is int and 0 <= n < 2**63 for n in counts.values()):
        raise ValueError(f"progress must be counts {', '.join(COUNTS)}; got {str(counts)[:200]}.")
    return dict(counts)


class RunState:
    """state_dict and load_state_dict are collective; a state is equal on all ranks.

    On another number of ranks counts and hooks go on, random numbers are those of the rank whose place this one takes, and
    train_metrics in work begin anew.

    of_another_world: whether the state that was loaded is of another number of ranks.
    """

    def __init__(
        self,
        run: Trainer,
        hooks: HookCalls,
        metrics: NamedMetrics,
        ranks: Ranks,
        scaler: torch.amp.GradScaler | None,
    ) -> None:
        self._run, self._hooks, self._metrics = run, hooks, metrics
        self._ranks, self._scaler = ranks, scaler
        self.of_another_world = False

    def state_dict(self) -> dict[str, Any]:
        own = {"random": random_state(), "metrics": self._metrics.state_dict(), "at_end": self._run.at_end}
        return {
            "progress": {name: getattr(self._run, name) for name in COUNTS},
            "scaler": {} if self._scaler is None else self._scaler.state_dict(),
            "hooks": self._hooks.state_dict(),
            "ranks": gather_states(own, self._ranks),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError, having changed nothing but hooks that took their part, if a part is damaged."""
        counts, ranks = checked_counts(state["progress"]), state["ranks"]
        own = state_of(ranks[self._ranks.rank % len(ranks)])
        check_random_state(own["random"])
        lost = self._hooks.load_state_dict(state["hooks"])
        if lost:
            LOG.warning("this run has no %s, whose state the checkpoint holds.", ", ".join(lost))
        with uninterrupted():
            if self._scaler is not None and state["scaler"]:
                self._scaler.load_state_dict(dict(state["scaler"]))
            self.of_another_world = len(ranks) != self._ranks.world
            self._metrics.load_state_dict({} if self.of_another_world else own["metrics"])
            self._run.at_end = bool(own["at_end"]) and not self.of_another_world
            vars(self._run).update(counts)
            set_random_state(own["random"])
