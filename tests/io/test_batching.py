"""Which rows a worker gets, in batches of what size."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.io.batching import batch_sizes, remaining, share_sizes, worker_rows
from recis_core.io.position import Cut


def sizes_of(rows, worker, workers, batch_size, drop):
    return batch_sizes(*share_sizes(rows, [Cut(worker, workers)]), batch_size, drop)


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 9), st.integers(1, 60), st.booleans())
def test_workers_share_all_rows_and_agree_on_batches(rows, workers, batch_size, drop):
    shares = [worker_rows(rows, k, workers) for k in range(workers)]
    assert [begin for begin, _ in shares] == [0, *(end for _, end in shares[:-1])]
    assert shares[-1][1] == rows
    sizes = [sizes_of(rows, k, workers, batch_size, drop) for k in range(workers)]
    assert all(0 < size <= batch_size for worker in sizes for size in worker)
    if drop:
        assert len({tuple(worker) for worker in sizes}) == 1
        assert all(size == batch_size for size in sizes[0])
        return
    assert [sum(worker) for worker in sizes] == [end - begin for begin, end in shares]
    if batch_size > 1 and rows // workers >= len(max(sizes, key=len)):
        assert len({len(worker) for worker in sizes}) == 1


def test_the_docstring_tells_the_truth():
    assert [sizes_of(10, k, 2, 2, False) for k in (0, 1)] == [[2, 2, 1], [2, 2, 1]]
    assert [sizes_of(10, k, 2, 2, True) for k in (0, 1)] == [[2, 2], [2, 2]]
    assert [sizes_of(9, k, 2, 2, False) for k in (0, 1)] == [[2, 1, 1], [2, 2, 1]]


@pytest.mark.parametrize(("done", "left"), [(0, [4, 4, 3]), (4, [4, 3]), (5, [3, 3]), (11, [])])
def test_remaining(done, left):
    assert remaining([4, 4, 3], done) == left
