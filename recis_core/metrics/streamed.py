"""What metrics of this package share: checks at the door, whole updates, ranks, states."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, distributed

from recis_core.metrics.checked import Labels, checked, checked_groups, checked_weights
from recis_core.metrics.metric import Gather
from recis_core.uninterrupted import uninterrupted

LOG = logging.getLogger("recis_core.metrics")
State = dict[str, np.ndarray]
KIND = "metric"  # key of a state: the metric and its arguments, in words


class Streamed(ABC):
    """A Metric whose state is a few arrays, which merge with those of other ranks.

    Classes set what they take: grouped, weighted, _probabilities (predictions lie in [0, 1]), _wanted (labels).
    """

    grouped: ClassVar[bool] = False
    weighted: ClassVar[bool] = False
    _probabilities: ClassVar[bool] = True
    _wanted: ClassVar[Labels] = "binary"

    def __call__(self, predictions: Any, labels: Any, groups: Any = None, weights: Any = None) -> float:
        """Add a batch; returns the value of this batch alone."""
        alone = self._empty()
        alone.update(predictions, labels, groups, weights)
        self.update(predictions, labels, groups, weights)
        return alone.compute()

    def update(self, predictions: Any, labels: Any, groups: Any = None, weights: Any = None) -> None:
        """Add a batch of N rows; a call that raises adds none.

        Args:
          predictions: [N], any real dtype. labels: [N], 0 or 1 where the metric says no other. Tensors or arrays; more
            dimensions are flattened.
          groups: [N] integers; of grouped metrics alone, which need them.
          weights: [N] of 0 or more; of weighted metrics alone. None: 1 each.

        Raises:
          ValueError: a label, prediction or weight is out of range, the shapes differ, or groups are missing.
          TypeError: values are no real numbers, or the metric takes no groups or weights.
        """
        p, y = checked(predictions, labels, probabilities=self._probabilities, wanted=self._wanted)
        g = checked_groups(groups, len(p), repr(self)) if self.grouped else self._refuse("groups", groups)
        w = checked_weights(weights, len(p)) if self.weighted else self._refuse("weights", weights)
        with uninterrupted():
            self._add(p, y, g, w)

    def _refuse(self, name: str, given: Any) -> np.ndarray:
        if given is not None:
            raise TypeError(f"{self!r} takes no {name}; leave them out.")
        return np.empty(0)

    def reduce(self, gather: Gather | None = None) -> None:
        """Merge the rows of all ranks, on each rank. Collective.

        Args:
          gather: from this rank's tensor [n, …] to all ranks' tensors; n may differ. None: torch.distributed's default
            group, or this process alone without a group.
        """
        gather = gather or gathered_by_default
        mine = self._packed()
        parts = {name: [part.numpy() for part in gather(torch.from_numpy(mine[name]))] for name in mine}
        everyone = [dict(zip(parts, each, strict=True)) for each in zip(*parts.values(), strict=True)]
        whole = self._empty()
        for state in everyone:
            whole._merge(state)
        self._become(whole)

    @property
    @abstractmethod
    def undefined(self) -> str | None:
        """Why the value is undefined, in words; None if it is defined."""

    def compute(self) -> float:
        """The value of all rows since the last reset; NaN, with a logged warning, where it is undefined."""
        why = self.undefined
        if why is not None:
            LOG.warning("%s is nan: %s.", type(self).__name__, why)
            return float("nan")
        return self._value()

    def state_dict(self) -> dict[str, Any]:
        """All that the metric holds: tensors, and the metric's own words."""
        return {KIND: repr(self), **{name: torch.from_numpy(part.copy()) for name, part in self._state().items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold what `state_dict` gave. Raises ValueError where the state is another metric's."""
        if state.get(KIND) != repr(self):
            raise ValueError(f"the state must be one of {self!r}; got one of {state.get(KIND, 'another kind')}.")
        wanted = self._state()
        if state.keys() - {KIND} != wanted.keys():
            raise ValueError(f"a state of {self!r} holds {', '.join(wanted)}; got {', '.join(state.keys() - {KIND})}.")
        parts = {name: np.array(state[name].cpu().numpy(), wanted[name].dtype) for name in wanted}
        loaded = self._empty()
        loaded._load(parts)
        self._become(loaded)

    @abstractmethod
    def reset(self) -> None:
        """Drop all rows."""

    @abstractmethod
    def _add(self, p: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> None:
        """Checked rows: float64 [N]; groups int64 [N] and weights float64 [N] where the metric takes them."""

    @abstractmethod
    def _value(self) -> float: ...

    @abstractmethod
    def _packed(self) -> State:
        """Arrays [n, …] of equal rows on all ranks."""

    @abstractmethod
    def _merge(self, state: State) -> None:
        """Add another metric's arrays."""

    def _state(self) -> State:
        return self._packed()

    def _load(self, state: State) -> None:
        """Into a metric without rows."""
        self._merge(state)

    def _empty(self) -> Self:
        """A metric of the same arguments, without rows: `reset` makes new parts and leaves the old ones alone."""
        alone = copy.copy(self)
        alone.reset()
        return alone

    def _become(self, other: Self) -> None:
        with uninterrupted():
            vars(self).update(vars(other))


def gathered_by_default(part: Tensor) -> list[Tensor]:
    """All ranks' tensors of torch.distributed's default group; this one alone without a group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [part]
    everyone: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, part)
    return everyone
