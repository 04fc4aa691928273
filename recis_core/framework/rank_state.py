"""What each rank of a run has for itself: its position in its data, and the sums of its metrics in work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recis_core.framework.named_metrics import NamedMetrics
from recis_core.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from recis_core.framework.trainer import Trainer


class RankState:
    """Registered with a manager as the rank's data.

    reader: the data, which keeps its position; None where there is none. of_another_world: whether the state that was
    loaded is of another number of ranks, which share out the rows that are left and begin their metrics anew.
    """

    def __init__(self, run: Trainer, reader: Any, metrics: NamedMetrics) -> None:
        self._run, self._reader, self._metrics = run, reader, metrics
        self.of_another_world = False

    def state_dict(self) -> dict[str, Any]:
        position = None if self._reader is None else self._reader.state_dict()
        return {"reader": position, "at_end": self._run.at_end, "metrics": self._metrics.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """state: this rank's; or a list with that of every rank, of another number of ranks.

        Raises:
          ValueError: a part is missing or damaged, or the data cannot take positions of another number of ranks.
        """
        states = [state] if isinstance(state, Mapping) else list(state)
        lacking = {name for name in ("reader", "at_end", "metrics") for each in states if name not in each}
        if lacking:
            raise ValueError(f"the state of a rank's data lacks {sorted(lacking)}.")
        positions = [each["reader"] for each in states]
        with uninterrupted():
            if self._reader is not None and None not in positions:
                self._reader.load_state_dict(positions[0] if isinstance(state, Mapping) else positions)
            self.of_another_world = not isinstance(state, Mapping)
            self._metrics.load_state_dict({} if self.of_another_world else states[0]["metrics"])
            self._run.at_end = bool(states[0]["at_end"]) and not self.of_another_world
