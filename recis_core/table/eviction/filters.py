"""Filters: which rows of one named table a FilterHook evicts, by their marks.

Sizes: n rows, D dim.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.records import Marks
from recis_core.table.unapplied import Keys

if TYPE_CHECKING:
    from recis_core.options.filter_hook import FilterHook

CHUNK = 65_536  # rows whose norms are computed at a time
TTL_PARTS = 64  # parts of a lifetime; about one time is kept for each


@dataclass(frozen=True)
class View:
    """One named table at one time.

    step: finished optimizer steps. A row's stamp is the number of steps finished when it was last used.
    pinned: bool [n], rows that must stay. weights: positions int64 [k] -> float32 [k, D], on the CPU.
    spread: number of ranks that hold the table's rows. ordinal: the named table's ordinal.
    """

    marks: Marks
    step: int
    pinned: Tensor
    weights: Callable[[Tensor], Tensor]
    spread: int
    ordinal: int


class Filter(Protocol):
    """One physical table's filter and its memory."""

    def choose(self, view: View) -> Tensor:
        """bool [n]: rows to evict; the caller leaves out pinned ones."""
        ...

    def chose(self, *, gone: bool) -> None:
        """After `choose`: whether the chosen rows were erased."""
        ...

    def forget(self, keys: Keys) -> None:
        """These rows were erased or replaced."""
        ...

    def finished(self, step: int) -> None:
        """`step` optimizer steps are finished."""
        ...

    def state(self) -> dict[str, Any]:
        """Tensors and numbers, for saved states."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class _Forgetful:
    """A filter without memory of rows."""

    def chose(self, *, gone: bool) -> None:
        """Nothing is remembered."""

    def forget(self, keys: Keys) -> None:
        """Nothing is remembered."""

    def finished(self, step: int) -> None:
        """Steps are not counted."""

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Has no state."""


class StepFilter(_Forgetful):
    def __init__(self, filter_step: int) -> None:
        self.filter_step = filter_step

    def choose(self, view: View) -> Tensor:
        last = view.marks.stamps.long() + 1  # the step of the last use, counted from 1
        return view.step - last >= self.filter_step


class LRU(_Forgetful):
    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows

    def choose(self, view: View) -> Tensor:
        return _lowest(view, self.max_rows, view.marks.stamps.numpy())


class LFU(_Forgetful):
    """Keeps each named table's aged counts since its last eviction. Needs TableSpec.score = "count"."""

    def __init__(self, max_rows: int, decay: float) -> None:
        self.max_rows, self.decay = max_rows, decay
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._next: dict[int, dict[str, Tensor]] = {}  # takes effect once the rows are erased

    def choose(self, view: View) -> Tensor:
        ids, counts = view.marks.ids, view.marks.scores
        before = self._kept.get(view.ordinal)
        aged = counts.double() if before is None else self._aged(before, ids, counts)
        gone = _lowest(view, self.max_rows, aged.numpy())
        stay = ~gone
        self._next = {**self._next, view.ordinal: {"ids": ids[stay], "counts": counts[stay], "aged": aged[stay]}}
        return gone

    def chose(self, *, gone: bool) -> None:
        self._kept, self._next = {**self._kept, **(self._next if gone else {})}, {}

    def forget(self, keys: Keys) -> None:
        self._kept = {ordinal: left for ordinal, kept in self._kept.items() if (left := _left_of(kept, ordinal, keys))}

    def _aged(self, before: dict[str, Tensor], ids: Tensor, counts: Tensor) -> Tensor:
        """decay · aged + uses since the last eviction. A count below the former one is of a new row, and is taken as it is."""
        if not len(before["ids"]):
            return counts.double()
        at = torch.searchsorted(before["ids"], ids).clamp(max=len(before["ids"]) - 1)
        same = (before["ids"][at] == ids) & (before["counts"][at] <= counts)
        since = counts.double() - before["counts"][at]
        return torch.where(same, self.decay * before["aged"][at] + since, counts.double())

    def state(self) -> dict[str, Any]:
        return {"lfu": [[ordinal, dict(kept)] for ordinal, kept in self._kept.items()]}

    def load_state(self, state: dict[str, Any]) -> None:
        self._kept = {ordinal: dict(kept) for ordinal, kept in state.get("lfu", [])}


def _left_of(kept: dict[str, Tensor], ordinal: int, keys: Keys) -> dict[str, Tensor]:
    stay = ~keys.among(kept["ids"], torch.full_like(kept["ids"], ordinal, dtype=torch.int32))
    return {name: values[stay] for name, values in kept.items()} if bool(stay.any()) else {}


class TTL(_Forgetful):
    """Keeps when steps were finished: the last one, up to 2 · TTL_PARTS within a lifetime, and one before."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now: Callable[[], float] = time.time
        self._finished: list[tuple[int, float]] = []  # (steps finished, time), both ascending

    def finished(self, step: int) -> None:
        now, times = self.now(), [*self._finished]
        if len(times) > 1 and now - times[-2][1] < self.seconds / TTL_PARTS:
            times.pop()  # the last step is always kept; of the others, one for each part of a lifetime
        times.append((step, now))
        while len(times) > 1 and times[1][1] <= now - self.seconds:
            times.pop(0)
        self._finished = times

    def choose(self, view: View) -> Tensor:
        """Rows last used in a step that was finished a lifetime ago or earlier."""
        before = self.now() - self.seconds
        steps = max((step for step, when in self._finished if when <= before), default=0)
        return view.marks.stamps < steps

    def state(self) -> dict[str, Any]:
        return {"ttl": [list(each) for each in self._finished]}

    def load_state(self, state: dict[str, Any]) -> None:
        self._finished = [(int(step), float(when)) for step, when in state.get("ttl", [])]


class Norm(_Forgetful):
    def __init__(self, below: float) -> None:
        self.below = below

    def choose(self, view: View) -> Tensor:
        parts = torch.arange(len(view.marks.ids)).split(CHUNK)
        return torch.cat([view.weights(at).double().norm(dim=1) < self.below for at in parts])


class Custom(_Forgetful):
    def __init__(self, function: Callable[[Marks, Callable[[Tensor], Tensor]], Tensor]) -> None:
        self.function = function

    def choose(self, view: View) -> Tensor:
        chosen = self.function(view.marks, view.weights)
        wanted = (len(view.marks.ids),)
        if not isinstance(chosen, Tensor) or chosen.dtype != torch.bool or tuple(chosen.shape) != wanted:
            raise TypeError(f"a FilterHook's function must return a bool Tensor {list(wanted)}; got {chosen!r:.80}.")
        return chosen.cpu()


FILTERS: dict[str, Callable[..., Filter]] = {
    "GlobalStepFilter": StepFilter, "LRU": LRU, "LFU": LFU, "TTL": TTL, "Norm": Norm,
}  # fmt: skip


def filter_of(hook: FilterHook) -> Filter:
    return Custom(hook.name) if callable(hook.name) else FILTERS[hook.name](**hook.params)


def _lowest(view: View, max_rows: int, values: np.ndarray) -> Tensor:
    """bool [n]: the rows beyond this rank's share of max_rows, in order of value, then stamp, then id; none pinned."""
    share = -(-max_rows // view.spread)
    gone = torch.zeros(len(values), dtype=torch.bool)
    order = np.lexsort((view.marks.ids.numpy(), view.marks.stamps.numpy(), values, view.pinned.numpy()))
    gone[torch.from_numpy(order[: max(0, len(values) - share)].copy())] = True
    return gone & ~view.pinned
