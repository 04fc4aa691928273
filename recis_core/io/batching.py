"""The rows that a worker reads, and the sizes of its batches.

Sizes: R rows of all workers together.
"""

from __future__ import annotations


def worker_rows(rows: int, worker_idx: int, worker_num: int) -> tuple[int, int]:
    """[begin, end) of a worker's rows. Workers' runs hold every row once; their sizes differ by one at most."""
    return rows * worker_idx // worker_num, rows * (worker_idx + 1) // worker_num


def batch_sizes(rows: int, worker_idx: int, worker_num: int, batch_size: int, drop_remainder: bool) -> list[int]:
    """The sizes of a worker's batches; every worker has the same number, for a collective step needs all workers.

    10 rows, 2 workers of 5, batch_size 2: [2, 2, 1] each; dropping the remainder: [2, 2] each.
    9 rows, 2 workers of 4 and 5:          [2, 1, 1] and [2, 2, 1].
    A worker with fewer rows than the others' number of batches has fewer batches.
    """
    begin, end = worker_rows(rows, worker_idx, worker_num)
    if drop_remainder:
        return [batch_size] * (rows // worker_num // batch_size)
    most = -(-rows // worker_num)
    count = min(-(-most // batch_size), end - begin)
    sizes, left = [], end - begin
    for later in reversed(range(count)):
        sizes.append(min(batch_size, left - later))
        left -= sizes[-1]
    return sizes


def remaining(sizes: list[int], rows_done: int) -> list[int]:
    """The sizes left after rows_done rows; the first is shorter if rows_done ends inside a batch."""
    left = []
    for size in sizes:
        done = min(size, rows_done)
        rows_done -= done
        if done < size:
            left.append(size - done)
    return left
