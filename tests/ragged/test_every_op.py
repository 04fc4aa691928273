"""What all ops of columns have in common: hashes, too."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core import hashing, ragged
from recis_core.ragged import RaggedTensor
from tests.ragged.implementations import NAMES, chosen, plain

IDS = torch.tensor([[5, -1, 5], [2**62, 7, 0]])
ROWS = RaggedTensor(IDS.reshape(-1), torch.tensor([0, 2, 2, 6]), torch.arange(6.0))
DEEP = RaggedTensor(IDS.reshape(-1), [torch.tensor([0, 1, 3]), torch.tensor([0, 2, 2, 6])])
LETTERS, BOUNDS = torch.arange(200, dtype=torch.uint8), torch.tensor([0, 3, 3, 20, 100, 200])
FLOATS, EDGES, TEN, TABLE = IDS.float(), torch.tensor([0.0, 6]), torch.arange(10), torch.arange(8.0).view(4, 2)
OPS: dict[str, Callable[[], Any]] = {
    **{
        f: (lambda f=f: getattr(hashing, f)([LETTERS] * 2, [BOUNDS] * 2))
        for f in ("farmhash", "murmurhash", "sdbm", "djb2")
    },
    "murmur_pairs": lambda: hashing.murmur_pairs([IDS], [IDS.flip(0)]),
    "hash_decimals": lambda: hashing.hash_decimals([IDS, TEN], "farm", ["a", "b"]),
    "decimal_multi_hash": lambda: hashing.decimal_multi_hash([IDS, TEN], [5, 6, 7, 8]),
    "bucketize": lambda: ragged.bucketize([FLOATS, IDS, ROWS], [EDGES, [1, 7], [0.5]]),
    "uint64_mod": lambda: ragged.uint64_mod([IDS, ROWS], [7, 9]),
    "multi_hash": lambda: ragged.multi_hash([IDS, ROWS], [[7], [9, 11]]),
    "multi_hash_with": lambda: ragged.multi_hash_with(IDS, [3], [11], [5]),
    "feature_cross": lambda: ragged.feature_cross([ROWS, IDS], [ROWS, IDS[:, 0]]),
    "cut_off_2d": lambda: ragged.cut_off_2d([ROWS, DEEP], [1, 2], ["left", "right"]),
    "cut_off_3d": lambda: ragged.cut_off_3d([DEEP], 2, "left", "left"),
    "topk_index_cut_off": lambda: ragged.topk_index_cut_off(BOUNDS, TEN[:2, None], TEN[:2], TEN[:5] * 0),
    "ragged_tile": lambda: ragged.ragged_tile([2, 1], [1, 2], TEN[:4], torch.tensor([0, 2, 2, 4], device="cpu"), TABLE),
    "segment_sum": lambda: ragged.segment_sum(TABLE, TABLE[:, 0], TEN[:4], TEN[:4] // 2, 3),
    "segment_mean": lambda: ragged.segment_mean(TABLE, None, TEN[:4], TEN[:4] // 2, 3),
    "merge_offsets": lambda: ragged.merge_offsets([BOUNDS, BOUNDS]),
}


def all_results() -> Any:
    return {name: plain(op()) for name, op in OPS.items()}


def test_every_op_is_here() -> None:
    public = {*hashing.__all__, *ragged.__all__} - {"hash_texts", "largest_prime"}
    others = {
        "RaggedTensor",
        "RaggedPadInfo",
        "from_keyed_jagged",
        "is_keyed_jagged",
        "dense_to_ragged",
        "ragged_to_dense",
    }
    assert public - others == OPS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_no_default_device_reaches_inside(name: str) -> None:
    """Whatever torch makes without a device would be on the one that holds no values."""
    with chosen(name):
        outside = all_results()
        with torch.device("meta"):
            assert all_results() == outside


def test_loops_and_torch_give_the_same() -> None:
    found = []
    for name in NAMES:
        with chosen(name):
            found.append(all_results())
    assert all(results == found[0] for results in found)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(-2, 2), max_size=4), max_size=6), st.integers(0, 6), st.sampled_from(NAMES))
def test_any_cut_into_batches_gives_the_same_rows(rows: list[list[int]], at: int, name: str) -> None:
    ops: list[Callable[[RaggedTensor], RaggedTensor]] = [
        lambda x: ragged.feature_cross(x, x),
        lambda x: ragged.cut_off_2d(x, 2, "left"),
        lambda x: ragged.uint64_mod(x, 3),
        lambda x: ragged.bucketize(x, [0, 2]),
        lambda x: ragged.multi_hash(x, [5])[0],
    ]
    with chosen(name):
        for op in ops:
            whole, head, tail = (rows_in(op(column_of(part))) for part in (rows, rows[:at], rows[at:]))
            assert head + tail == whole


def column_of(rows: list[list[int]]) -> RaggedTensor:
    values = torch.tensor([v for row in rows for v in row], dtype=torch.int64)
    return RaggedTensor(values, torch.tensor([0, *map(len, rows)]).cumsum(0), values.float() + 9)


def rows_in(column: RaggedTensor) -> list[list[tuple[int, float]]]:
    pairs = list(zip(column.values().tolist(), column.weight().tolist(), strict=True))
    return [pairs[beg:end] for beg, end in pairwise(column.offsets()[-1].tolist())]


@pytest.mark.parametrize("wrong", [[0, 9, 6], [0, -1, 6], [0, 2, 90]])
@pytest.mark.parametrize("name", ["feature_cross", "cut_off_2d", "cut_off_3d"])
def test_loops_read_nothing_outside_of_a_column(name: str, wrong: list[int]) -> None:
    """Offsets that were changed in place, or came from a device where nobody looked at them."""
    rows = RaggedTensor(torch.arange(6), [torch.tensor([0, 1, 2]), torch.tensor([0, 3, 6])])
    op, level = getattr(ragged, name), rows.offsets()[-1]
    arguments = (rows, rows) if name == "feature_cross" else (rows, 2)
    level.copy_(torch.tensor(wrong))
    with chosen("numba"), pytest.raises(ValueError, match="offsets must (not decrease|end at)"):
        op(*arguments)


def test_threads_may_call_at_once() -> None:
    expected, found = all_results(), []
    threads = [threading.Thread(target=lambda: found.append(all_results())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


@pytest.mark.full  # of two whole runs on cold caches each hung here, and no run alone: unexplained, see docs/reading.md
def test_a_forked_child_may_call() -> None:
    """As workers of a DataLoader do, whose parent has used the loops; a parent in which JAX ran is another matter."""
    done = subprocess.run([sys.executable, "-m", "tests.ragged.forked"], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("ok\n", "")
