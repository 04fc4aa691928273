"""Tables whose columns are on two ranks, each in tiers: saved some rows at a time, in one order on both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recis_core.nn import CacheConfig
from recis_core.serialize import open_checkpoint
from recis_core.serialize.checkpoint import table_shot
from recis_core.table.table import Table
from tests.exchange.ranks import run_ranks
from tests.serialize.checkpoint.runs import Run


def saving(rank: int, world: int, folder: str) -> dict[str, Any]:
    table_shot.AT_ONCE = 7
    Table.export = None  # the whole of a table is asked for nowhere
    rows = 32 + 32 * rank  # so that the two hold rows in other tiers
    cache, other = (CacheConfig(device_rows=rows, host_rows=32, disk=f"{folder}/{kind}-{rank}") for kind in "ab")
    run = Run(rank, world, sharding="column", cache=cache)
    manager = run.manager(f"{folder}/ckpt")
    run.step(range(4))
    manager.save(4)
    run.step(range(4, 6))
    again = Run(rank, world, seed=6, sharding="column", cache=other)
    again.manager(f"{folder}/ckpt").restore()
    again.step(range(4, 6))
    return {"losses": (run.losses[-2:], again.losses)}


def test_what_two_ranks_save_is_read_again(tmp_path: Path) -> None:
    for rank in run_ranks(2, saving, str(tmp_path)):
        np.testing.assert_allclose(*rank["losses"], rtol=1e-6)
    checkpoint = open_checkpoint(tmp_path / "ckpt")
    checkpoint.verify()
    rows = {name: list(checkpoint.blocks(name)) for name in checkpoint.tables}
    assert sum(len(block.ids) for blocks in rows.values() for block in blocks) > 64, "more than the device has"
