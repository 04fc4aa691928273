"""Streams of several ranks: each publishes the rows that live on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recis_core.exchange.stream import DeltaReader, DeltaWriter, FileSink, FileSource, RowStore
from tests.exchange.models import Model, batch, optimizer_of, share
from tests.exchange.ranks import run_ranks


def publish(rank: int, world: int, folder: str, sharding: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A version a step; what this rank's tables hold at the end."""
    model = Model(sharding=sharding)
    optimizer = optimizer_of(model)
    tables = model.engine.sparse_parameters()
    writer, sink = DeltaWriter(tables), FileSink(Path(folder) / f"{rank}.stream")
    for step in range(4):
        out = model(batch(step, share(rank, world)))
        optimizer.zero_grad()
        out.sum().backward()
        optimizer.step()
        writer.publish(sink)
    return {name: (t.ids().numpy(), t.embeddings().numpy()) for name, t in tables.items()}


@pytest.mark.parametrize("sharding", ["row", "replicated"])
def test_each_rank_serves_its_rows(tmp_path: Path, sharding: str) -> None:
    ranks = run_ranks(2, publish, str(tmp_path), sharding)
    for rank, tables in enumerate(ranks):
        store = RowStore(backend="torch")
        reader = DeltaReader(store, FileSource(tmp_path / f"{rank}.stream"))
        reader.poll()
        assert store.version == 4
        for name, (ids, rows) in tables.items():
            assert len(ids)
            np.testing.assert_array_equal(store.lookup(name, torch.from_numpy(ids)).numpy(), rows)


def refused(rank: int, world: int) -> str:
    try:
        DeltaWriter(Model(sharding="column").engine.sparse_parameters())
    except ValueError as error:
        return str(error)
    return "no error"


def test_columns_are_refused() -> None:
    assert all("cut by columns" in said for said in run_ranks(2, refused))
