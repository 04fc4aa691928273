"""A range of a synthetic log as a dataset.

Sizes: n samples of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from recis_core.io.batch_rows import Batch, put_together
from recis_core.io.batching import remaining, worker_rows
from recis_core.io.dataset import Dataset
from recis_core.io.intervals import Intervals
from recis_core.io.position import Position

if TYPE_CHECKING:
    from recis_core.io.synthetic.log import SyntheticLog


class SyntheticDataset(Dataset):
    """Samples start .. stop of a synthetic log in batches.

    Workers interleave: step t begins at sample start + t · batch_size · worker_num, and each worker takes batch_size
    samples of it. So in each step two workers of 512 together read the samples of one worker of 1024. The last step is
    divided evenly; it may be short, or empty on some workers; `drop_remainder` leaves it out.

    Args, beside those of Dataset: log, a SyntheticLog; start, stop, the range of samples.
    """

    def __init__(self, log: SyntheticLog, batch_size: int, start: int, stop: int, **options: Any) -> None:
        super().__init__(batch_size, **options)
        if not 0 <= start <= stop:
            raise ValueError(f"samples must satisfy 0 <= start <= stop; got {start} and {stop}.")
        self._log, self._start, self._stop = log, start, stop

    def __len__(self) -> int:
        """Number of steps, equal on every worker."""
        return len(self._sizes(self.rows, 0, self.worker_num))

    @property
    def rows(self) -> int:
        """Samples of all workers together."""
        return self._stop - self._start

    def _share_of(self, rows: Intervals, worker: int, workers: int) -> Intervals:
        step, count = self.batch_size * workers, rows.count
        if workers == 1:
            return rows
        return rows.parts(
            (at + low, at + high)
            for at in range(0, count, step)
            for low, high in [worker_rows(min(step, count - at), worker, workers)]
        )

    def _sizes(self, rows: int, worker: int, workers: int) -> list[int]:
        """The sizes of a worker's batches of these rows."""
        steps, rest = divmod(rows, self.batch_size * workers)
        low, high = worker_rows(rest, worker, workers)
        return [self.batch_size] * steps + ([high - low] if rest and not self.drop_remainder else [])

    def _batches(self, position: Position) -> Iterator[tuple[Batch, int]]:
        *outer, last = position.cuts
        whole = Position(done=position.done, cuts=tuple(outer)).left(self.rows, self._share_of)
        mine = self._share_of(whole, *last.who)
        sizes, at = self._sizes(whole.count, *last.who), last.rows
        for size in remaining(sizes, at) + ([0] if sizes and not sizes[-1] else []):
            first, last_of_rank = worker_rows(size, *self._share)
            yield self._samples(mine.part(at + first, at + last_of_rank)), size
            at += size

    def _samples(self, rows: Intervals) -> Batch:
        runs = rows.runs or ((0, 0),)
        return put_together([self._log.batch(self._start + begin, end - begin) for begin, end in runs])

    def _identity(self) -> dict[str, Any]:
        log = {"preset": self._log.name, "seed": self._log.seed, "batch_size": self.batch_size}
        return {**log, "start": self._start, "stop": self._stop}
