"""Memory that files are read into: free when nothing views it, and never before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recis_core.serialize import TableBlock, new_checkpoint, open_checkpoint
from recis_core.serialize.checkpoint.reused import Reused
from recis_core.serialize.part_file import Memory, new_memory

SIZE = 5 << 20


@pytest.mark.parametrize("new", [new_memory, lambda size: np.empty(size, np.uint8)])
def test_a_block_is_free_when_nothing_views_it(new: Memory) -> None:
    reused = Reused(new)
    first = torch.from_numpy(reused.take(SIZE)).view(torch.float32).view(-1, 2)
    at, part = first.data_ptr(), first[3:7, 0]
    del first
    assert reused.take(SIZE).ctypes.data != at
    kept = part.numpy()
    del part
    assert reused.take(SIZE).ctypes.data != at
    del kept
    assert reused.take(SIZE - 8).ctypes.data == at
    assert len(reused.take(SIZE // 3)) == SIZE // 3
    assert len(reused._blocks) == 3


def test_blocks_that_are_kept_stay_as_they_were(tmp_path: Path) -> None:
    """Files are large enough for memory of their own: rows of 4 MiB and more."""
    values = torch.arange(4 << 20, dtype=torch.float32).reshape(-1, 16)
    block = TableBlock(torch.arange(len(values)), values)
    with new_checkpoint(tmp_path, 1, file_bytes=5 << 20) as writer:
        writer.table("f", [block], dim=16)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.tables["f"].shards >= 3
    assert torch.equal(torch.cat([each.rows for each in list(checkpoint.blocks("f", 1 << 30))]), values)
    some = [each.rows[:2] for each in checkpoint.blocks("f", 50_000)]
    assert all(float(rows[1, 0] - rows[0, 0]) == 16 for rows in some)
    assert float(some[0][0, 0]) == 0
