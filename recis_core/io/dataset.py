"""The base of datasets: batches in order, read ahead, moved to a device, resumed at a saved position.

Sizes: R rows of all workers together.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from recis_core.io.batching import worker_rows
from recis_core.io.prefetch import prefetched
from recis_core.io.selection import select_rows, to_device
from recis_core.ragged import RaggedTensor

Batch = dict[str, Tensor | RaggedTensor]
Step = tuple[str, Callable[[Any], Any]]


class Dataset(IterableDataset):
    """An iterable of batches. One `iter` is one epoch, from its start, or from the position of `load_state_dict`.

    Args:
      batch_size: rows of a batch on this worker.
      worker_idx, worker_num: this worker reads its share of the rows; the shares of all workers hold every row once.
      prefetch: batches made ahead on a thread; 0 for none.
      drop_remainder: only full batches, the same number on every worker.
      transform_fn: one function or a list, batch → batch, applied on the prefetch thread.
      device: the device of batches: "cpu", "pin" (page-locked CPU memory), "cuda", "cuda:1".
    """

    def __init__(
        self,
        batch_size: int,
        worker_idx: int = 0,
        worker_num: int = 1,
        *,
        prefetch: int = 1,
        drop_remainder: bool = False,
        transform_fn: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
        if not 0 <= worker_idx < worker_num:
            raise ValueError(f"worker_idx must be in [0, worker_num = {worker_num}); got {worker_idx}.")
        if prefetch < 0:
            raise ValueError(f"prefetch must be >= 0; got {prefetch}.")
        self.batch_size, self.worker_idx, self.worker_num = batch_size, worker_idx, worker_num
        self.prefetch, self.drop_remainder, self.device = prefetch, drop_remainder, device
        functions = [] if transform_fn is None else [transform_fn] if callable(transform_fn) else list(transform_fn)
        self._steps: list[Step] = [("map", function) for function in functions]
        self._epoch, self._rows_done, self._resumed = 0, 0, False
        self._share = 0, 1

    def share_batches(self, rank: int, world: int) -> None:
        """Make only this rank's rows of each batch, r·B//W to (r+1)·B//W; the ranks' parts together are the batch.

        So any number of ranks trains the same batches. Sizes and positions still count the rows of whole batches.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank must be in [0, world = {world}); got {rank}.")
        self._share = rank, world

    def _shared(self, rows: int) -> tuple[int, int]:
        """[begin, end) of this rank's rows of a batch."""
        return worker_rows(rows, *self._share)

    def map(self, function: Callable[[Any], Any]) -> Dataset:
        """Apply a function to each batch, after the functions and filters added before. Returns self."""
        self._steps.append(("map", function))
        return self

    def filter(self, predicate: Callable[[Any], Any]) -> Dataset:
        """Keep batches or rows for which `predicate(batch)` is True: a bool for the batch, or a bool tensor [rows].

        A batch without rows left is dropped, so workers may have different numbers of batches. Returns self.
        """
        self._steps.append(("filter", predicate))
        return self

    @abstractmethod
    def _batches(self, epoch: int, rows_done: int) -> Iterator[tuple[Batch, int]]:
        """This worker's batches of an epoch after the first `rows_done` rows, each with its number of rows."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """Values that must be equal for a position to mean the same rows."""

    def __iter__(self) -> Iterator[Any]:
        if get_worker_info() is not None:
            raise ValueError(
                f"{type(self).__name__} reads on threads of its own; each DataLoader worker would read all rows. "
                "Use it directly, or DataLoader(dataset, batch_size=None, num_workers=0)."
            )
        if not self._resumed:
            self._rows_done = 0
        self._resumed = False
        return self._epoch_of_batches()

    def _epoch_of_batches(self) -> Iterator[Any]:
        # A thread has its own current device, so "cuda" is resolved on this one.
        device = self.device if self.device == "pin" else torch.empty(0, device=self.device).device
        source = self._batches(self._epoch, self._rows_done)
        for batch, rows in prefetched(self._finished(source, device), self.prefetch):
            self._rows_done += rows
            if batch is not None:
                yield batch
        self._epoch, self._rows_done = self._epoch + 1, 0

    def _finished(self, source: Iterator[tuple[Batch, int]], device: str | torch.device) -> Iterator[tuple[Any, int]]:
        for raw, rows in source:
            batch = self._stepped(raw, rows)
            yield (None if batch is None else to_device(batch, device)), rows

    def _stepped(self, batch: Any, rows: int) -> Any:
        for kind, function in self._steps:
            if kind == "map":
                batch = function(batch)
                continue
            kept = function(batch)
            if isinstance(kept, Tensor) and kept.dim() > 0:
                if not kept.any():
                    return None
                batch = select_rows(batch, kept)
            elif not kept:
                return None
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch that the loop got, without batches read ahead."""
        position = {"epoch": self._epoch, "rows": self._rows_done}
        return {**position, "worker_idx": self.worker_idx, "worker_num": self.worker_num, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next `iter` start at the position of `state`. The batch size may differ; workers and data must not.

        Raises:
          ValueError: the state is of another number of workers, another worker, or other data.
        """
        if state["worker_num"] != self.worker_num:
            raise ValueError(
                f"worker_num must be {state['worker_num']}, as when the position was saved; got {self.worker_num}. "
                "A position among one worker's rows means nothing to another number of workers: begin the epoch anew."
            )
        for name, mine in {"worker_idx": self.worker_idx, **self._identity()}.items():
            if state[name] != mine:
                raise ValueError(f"{name} must be {state[name]!r}, as when the position was saved; got {mine!r}.")
        self._epoch, self._rows_done, self._resumed = state["epoch"], state["rows"], True
