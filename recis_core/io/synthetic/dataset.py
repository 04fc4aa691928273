"""A range of the click log as a dataset.

Sizes: n samples of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from recis_core.io.dataset import Batch, Dataset

if TYPE_CHECKING:
    from recis_core.io.synthetic.clicks import SyntheticClicks


class SyntheticDataset(Dataset):
    """Samples start .. stop of a click log in batches.

    Workers interleave: step t begins at sample start + t · batch_size · worker_num, and each worker takes batch_size
    samples of it. So in each step two workers of 512 together read the samples of one worker of 1024. The last step is
    divided evenly; it may be short, or empty on some workers; `drop_remainder` leaves it out.

    Args, beside those of Dataset: clicks, the log; start, stop, the range of samples.
    """

    def __init__(self, clicks: SyntheticClicks, batch_size: int, start: int, stop: int, **options: Any) -> None:
        super().__init__(batch_size, **options)
        if not 0 <= start <= stop:
            raise ValueError(f"samples must satisfy 0 <= start <= stop; got {start} and {stop}.")
        self._clicks, self._start, self._stop = clicks, start, stop

    def __len__(self) -> int:
        """Number of steps, equal on every worker."""
        steps, rest = divmod(self._stop - self._start, self.batch_size * self.worker_num)
        return steps + (rest > 0 and not self.drop_remainder)

    def _range(self, step: int) -> tuple[int, int]:
        begin = self._start + step * self.batch_size * self.worker_num
        rows = min(self.batch_size * self.worker_num, self._stop - begin)
        edges = [begin + rows * worker // self.worker_num for worker in (self.worker_idx, self.worker_idx + 1)]
        return edges[0], edges[1]

    def _batches(self, epoch: int, rows_done: int) -> Iterator[tuple[Batch, int]]:
        for step in range(len(self)):
            begin, end = self._range(step)
            if rows_done:
                rows_done -= end - begin
                continue
            first, last = self._shared(end - begin)
            yield self._clicks.batch(begin + first, last - first), end - begin

    def _identity(self) -> dict[str, Any]:
        log = {"preset": self._clicks.preset.name, "seed": self._clicks.seed, "batch_size": self.batch_size}
        return {**log, "start": self._start, "stop": self._stop}
