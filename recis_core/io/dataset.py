"""The base of datasets: batches in order, read ahead, moved to a device, resumed at a saved position.

Sizes: R rows of all workers together.
"""

from __future__ import annotations

import mmap
import multiprocessing.context
import weakref
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow.compute as pc
import torch
from torch.utils.data import IterableDataset, get_worker_info

from recis_core.io.batch_rows import Batch, own_memory, rows_of
from recis_core.io.batch_steps import Step, stepped
from recis_core.io.batching import neighbours, worker_rows
from recis_core.io.intervals import Intervals
from recis_core.io.position import Position, Who, merged, require_equal, resolved, states_of
from recis_core.io.prefetch import prefetched
from recis_core.io.selection import to_device


class Dataset(IterableDataset):
    """An iterable of batches. One `iter` is one epoch, from its start, or from the position of `load_state_dict`.

    Under a torch DataLoader(dataset, batch_size=None, num_workers=k) the DataLoader's workers divide this worker's rows.

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
        self._share = 0, 1
        self._position = Position()
        self._loaded: list[Position] = []  # positions of load_state_dict, until an epoch begins
        self._own_process()

    def _own_process(self) -> None:
        self._epoch_iterator: weakref.ref[Generator[Any, None, None]] | None = None
        self._read_elsewhere = mmap.mmap(-1, 1)  # shared with forked processes: one of them reads

    def __getstate__(self) -> dict[str, Any]:
        if multiprocessing.context.get_spawning_popen() is not None:
            self._read_elsewhere[0] = 1
        return {name: value for name, value in vars(self).items() if name not in ("_epoch_iterator", "_read_elsewhere")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._own_process()

    def share_batches(self, rank: int, world: int) -> None:
        """Make only this rank's rows of each batch, r·B//W to (r+1)·B//W; the ranks' parts together are the batch.

        So any number of ranks trains the same batches. Sizes and positions still count the rows of whole batches.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank must be in [0, world = {world}); got {rank}.")
        self._share = rank, world

    def _shared(self, batch: Batch) -> Batch:
        """This rank's rows of a batch."""
        if self._share == (0, 1):
            return batch
        return rows_of(batch, *worker_rows(len(next(iter(batch.values()))), *self._share))

    def map(self, function: Callable[[Any], Any]) -> Dataset:
        """Apply a function to each batch, after the functions and filters added before. Returns self."""
        self._steps.append(("map", function))
        return self

    def filter(self, predicate: Callable[[Any], Any] | pc.Expression) -> Dataset:
        """Keep batches or rows for which `predicate(batch)` is True: a bool for the batch, or a bool tensor [rows].

        A batch without rows left is dropped, so workers may have different numbers of batches. Returns self.
        """
        if not callable(predicate):
            raise TypeError(f"{type(self).__name__} filters batches by a function; got {type(predicate).__name__}.")
        self._steps.append(("filter", predicate))
        return self

    @abstractmethod
    def _batches(self, position: Position) -> Iterator[tuple[Batch, int]]:
        """The batches of an epoch from a worker's position on, each with the rows of its share that are behind it."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Rows of all workers together, R."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """Values that must be equal for a position to mean the same rows."""

    def _share_of(self, rows: Intervals, worker: int, workers: int) -> Intervals:
        """The rows of one of `workers` out of these."""
        return neighbours(rows, worker, workers)

    @property
    def _who(self) -> Who:
        info = get_worker_info()
        mine = (self.worker_idx, self.worker_num)
        return (mine,) if info is None else (mine, (info.id, info.num_workers))

    def __iter__(self) -> Generator[Any, None, None]:
        self._read_elsewhere[0] = get_worker_info() is not None
        self._position = self._first_position()
        self._loaded = []
        batches = self._epoch_of_batches(self._position)
        self._epoch_iterator = weakref.ref(batches)
        return batches

    def _first_position(self) -> Position:
        """Where the next epoch, or the rest of one, begins."""
        at = self._resumed() if self._loaded else Position(self._position.epoch, ended=self._position.ended)
        return Position(at.epoch + 1).cut_for(self._who) if at.ended else at.cut_for(self._who)

    def _resumed(self) -> Position:
        return resolved(self._loaded, self._who, self.rows, self._share_of)

    def set_epoch(self, epoch: int) -> None:
        """Let the next `iter` be this epoch, from its start. A DataLoader needs it, unless its workers are persistent:
        it sends each epoch's workers the dataset as it is here, where no epoch ends."""
        self._position, self._loaded = Position(epoch), []

    @property
    def ended(self) -> bool:
        """Whether the epoch's end was met, here or at the position that was loaded."""
        return self._position.ended

    def go_on(self) -> None:
        """Let the next `iter` read on where the last one stopped: after its last batch; after an epoch's end, nothing."""
        self._loaded = [replace(self._position.cut_for(self._who), ended=False)]

    def close(self) -> None:
        """End the running epoch's threads. The position stays; the next `iter` begins the epoch anew."""
        running = None if self._epoch_iterator is None else self._epoch_iterator()
        if running is not None:
            running.close()

    def _epoch_of_batches(self, position: Position) -> Generator[Any, None, None]:
        # A thread has its own current device, so "cuda" is resolved on this one.
        device = self.device if self.device == "pin" else torch.empty(0, device=self.device).device
        in_worker = get_worker_info() is not None
        with closing(prefetched(self._finished(position, device, in_worker), self.prefetch)) as batches:
            for batch, rows in batches:
                position = self._reached(position, position.forward(rows))
                if batch is not None:
                    yield batch
        self._reached(position, replace(position, ended=True))

    def _reached(self, before: Position, now: Position) -> Position:
        """An older iterator of this dataset changes no position."""
        if self._position is before:
            self._position = now
        return now

    def _finished(self, position: Position, device: str | torch.device, in_worker: bool) -> Iterator[tuple[Any, int]]:
        for raw, rows in self._batches(position):
            batch = stepped(raw, self._steps)
            if batch is not None:
                batch = to_device(own_memory(batch) if in_worker else batch, device)
            yield batch, rows

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch that the loop got, without batches read ahead: plain values, as for JSON.

        epoch, and `ended`, whether its end was met; `done`: the runs of the epoch's rows that all workers had done when
        rows were last divided; `cuts`: [worker, workers, rows of its share done since], for this worker and then the
        DataLoader's; and what tells whether the data is the same.

        Raises:
          ValueError: DataLoader workers read the dataset: this process does not know their positions.
        """
        if self._read_elsewhere[0] and get_worker_info() is None:
            raise ValueError(
                "DataLoader workers read this dataset, and this process does not know how far they are. Save the state_dict() "
                "of a torchdata.stateful_dataloader.StatefulDataLoader, or read with num_workers=0."
            )
        return {**self._position.cut_for(self._who).to_dict(), **self._identity()}

    def load_state_dict(self, state: Any, *, allow_new_files: bool = False) -> None:
        """Let the next `iter` start at the position of `state`. The batch size may differ.

        Args:
          state: this worker's `state_dict()`; or a list with that of every worker, of the same or another number of
            workers; or what a StatefulDataLoader's `state_dict()` gives, or a list of these, one a rank. A worker goes on
            at its own position, if it is there; otherwise it gets its share of the rows that nobody has done.
          allow_new_files: files may have come since; their rows are read in this epoch, too, after the others.

        Raises:
          ValueError: workers' positions are missing, or the data changed since; says how.
        """
        self._checked_load(state, allow_new_files)()

    def _checked_load(self, state: Any, allow_new_files: bool) -> Callable[[], None]:
        """The load of a state that fits; only the call of what this gives changes the dataset."""
        states = states_of(state)
        positions = self._accepted(states, allow_new_files)
        resolved(positions, self._who, self.rows, self._share_of)
        return partial(self._load, positions, states)

    def _accepted(self, states: list[dict[str, Any]], allow_new_files: bool) -> list[Position]:
        """The positions of states. Raises ValueError where they are of other data."""
        for state in states:
            require_equal(self._identity(), state)
        return [Position.from_dict(state) for state in states]

    def _load(self, positions: list[Position], states: list[dict[str, Any]]) -> None:
        self._position, self._loaded = resolved(positions, self._who, self.rows, self._share_of), positions
        self._read_elsewhere[0] = 0

    def merge_states(self, states: Sequence[Any]) -> dict[str, Any]:
        """The positions of all workers as one, which any number of workers can load. See load_state_dict for errors."""
        found = states_of(list(states))
        whole = merged(self._accepted(found, False), self.rows, self._share_of)
        kept = {name: value for name, value in found[0].items() if name not in ("rows", "worker_idx", "worker_num")}
        return {**kept, **whole.to_dict()}
