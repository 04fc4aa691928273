"""Several data sets as one: each batch comes from one of them, drawn by weight.

Sizes: t batches made in an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from recis_core.io.batch_steps import Step, stepped
from recis_core.io.dataset import Dataset
from recis_core.io.position import VERSION, require_equal, states_of

BLOCK = 1024  # draws made at once


class MixedDataset(IterableDataset):
    """Batches of several data sets, each drawn by weight; each source's batches come in its own order.

        mixed = MixedDataset({"clicks": (clicks, 3.0), "buys": (buys, 1.0)}, seed=1, until="all")
        for batch in mixed: ...          # of 4 batches 3 are of clicks, about; mixed.source says which

    The draws depend on seed, epoch and number of the batch alone: ranks whose sources have as many batches draw alike.

    Args:
      sources: {name: (dataset, weight)}, weights above 0; datasets split rows among workers and read ahead, as alone.
      until: "first" ends the epoch with the first source that ends, "all" with the last; those that ended are drawn no more.
      name_key: each batch, a dict, gets the name of its source under this key; None for none.

    A source's position is its own: an epoch that ends "first" leaves the other sources where they are, and the next epoch
    reads on there. So no row is left out.
    """

    def __init__(
        self,
        sources: Mapping[str, tuple[Dataset, float]],
        *,
        seed: int = 0,
        until: str = "all",
        name_key: str | None = None,
    ) -> None:
        if not sources or until not in ("first", "all"):
            raise ValueError(
                f"sources must name a dataset, until be 'first' or 'all'; got {len(sources)} and {until!r}."
            )
        for name, (_, weight) in sources.items():
            if not (weight > 0 and math.isfinite(weight)):
                raise ValueError(f"the weight of {name!r} must be a finite number above 0; got {weight}.")
        self.sources = {name: dataset for name, (dataset, _) in sources.items()}
        self.weights = {name: float(weight) for name, (_, weight) in sources.items()}
        self.seed, self.until, self.name_key = seed, until, name_key
        self.source: str | None = None
        self._steps: list[Step] = []
        self._epoch, self._drawn, self._ended = 0, 0, dict.fromkeys(sources, False)
        self._over = self._resumed = False
        self._running: object = None

    def map(self, function: Callable[[Any], Any]) -> MixedDataset:
        """Apply a function to each batch, of any source. Returns self."""
        self._steps.append(("map", function))
        return self

    def filter(self, predicate: Callable[[Any], bool | Tensor]) -> MixedDataset:
        """Keep batches or rows, as `Dataset.filter` by a function does. Returns self."""
        self._steps.append(("filter", predicate))
        return self

    def share_batches(self, rank: int, world: int) -> None:
        """`Dataset.share_batches` of each source."""
        for dataset in self.sources.values():
            dataset.share_batches(rank, world)

    def __iter__(self) -> Iterator[Any]:
        if self._over:
            self._epoch, self._over = self._epoch + 1, False
            for name, dataset in self.sources.items():
                if not self._ended[name]:
                    dataset.go_on()
        if not self._resumed:
            self._drawn, self._ended = 0, dict.fromkeys(self.sources, False)
        self._resumed = False
        self._running = object()
        return self._epoch_of_batches(self._running)

    def _epoch_of_batches(self, me: object) -> Generator[Any, None, None]:
        with ExitStack() as stack:
            left = {n: stack.enter_context(closing(iter(d))) for n, d in self.sources.items() if not self._ended[n]}
            for name in self._draws(left):
                batch = next(left[name], None)
                if self._running is not me:
                    raise RuntimeError("a MixedDataset has one iterator; a newer one was made.")
                self._drawn += 1
                if batch is None:
                    self._ended[name] = True
                    del left[name]
                    if self.until == "first":
                        break
                    continue
                self.source = name
                made = stepped(batch if self.name_key is None else {**batch, self.name_key: name}, self._steps)
                if made is not None:
                    yield made
        self._over = True

    def _draws(self, left: dict[str, Any]) -> Iterator[str]:
        """Names of sources that are left, from the `_drawn`-th draw on."""
        info = get_worker_info()
        seeds = [self.seed, self._epoch, 0 if info is None else info.id + 1]
        while left:
            block, begin = divmod(self._drawn, BLOCK)
            for u in np.random.default_rng([*seeds, block]).random(BLOCK)[begin:]:
                if not left:
                    return
                names = list(left)
                edges = np.cumsum([self.weights[name] for name in names])
                yield names[int(np.searchsorted(edges, u * edges[-1], side="right"))]

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch: draws made, and each source's position. See `Dataset.state_dict`."""
        sources = {name: dataset.state_dict() for name, dataset in self.sources.items()}
        at = {"epoch": self._epoch, "drawn": self._drawn, "over": self._over, "ended": dict(self._ended)}
        return {"version": VERSION, **at, "mixed": {"seed": self.seed, "until": self.until}, "sources": sources}

    def load_state_dict(self, state: Any, *, allow_new_files: bool = False) -> None:
        """Let the next `iter` start at a position, or at those of all workers, as `Dataset.load_state_dict`.

        Another number of workers reads each row of each source once; draws go on where the first worker was.

        Raises:
          ValueError: names of sources, seed or `until` differ; or a source refuses its position.
        """
        states = states_of(state)
        for each in states:
            mine = {"mixed": {"seed": self.seed, "until": self.until}, "epoch": states[0]["epoch"]}
            require_equal(mine, each)
            if set(each["sources"]) != set(self.sources):
                raise ValueError(
                    f"sources must be {', '.join(each['sources'])}, as then; got {', '.join(self.sources)}."
                )
        loads = [
            dataset._checked_load([each["sources"][name] for each in states], allow_new_files)
            for name, dataset in self.sources.items()
        ]
        for load in loads:
            load()
        self._epoch, self._drawn = states[0]["epoch"], max(each["drawn"] for each in states)
        self._over = all(each["over"] for each in states)
        self._ended = {name: all(each["ended"][name] for each in states) for name in self.sources}
        self._resumed = not self._over
