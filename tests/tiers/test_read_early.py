"""Rows that are read from disk ahead of their call, beside whatever else happens to that disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recis_core.nn import EmbeddingEngine
from recis_core.table.disk import DiskStore
from recis_core.table.tiers import staging, tiered_state
from recis_core.table.tiers.disk_place import open_disk
from tests.tiers.training import adam, cache_in, engine_of, planned, tiers_of
from tests.training.loop import random_batches, train


@pytest.fixture
def tiered(tmp_path: Path) -> EmbeddingEngine:
    return engine_of(cache_in(tmp_path))


def test_slots_are_added_while_rows_are_read_early(tiered: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """That closes the disk which they are read from, and opens another."""
    batches, read = random_batches(40), DiskStore.read
    for batch in batches:
        with torch.no_grad():
            tiered(batch)

    def after_slots(disk: DiskStore, *keys: np.ndarray) -> Any:
        monkeypatch.setattr(DiskStore, "read", read)
        adam(tiered)
        return read(disk, *keys)

    monkeypatch.setattr(DiskStore, "read", after_slots)
    ahead = planned(tiered, {"f": torch.arange(400)})
    staging.read_early(tiers_of(tiered), ahead)
    assert ahead.early is None
    assert tiers_of(tiered).slots
    staging.read_early(tiers_of(tiered), ahead)
    assert ahead.early is not None


def test_a_disk_that_fails_is_no_secret(tiered: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise OSError("broken")

    train(tiered, adam(tiered), random_batches(40))
    monkeypatch.setattr(DiskStore, "read", broken)
    with pytest.raises(OSError, match="broken"):
        staging.read_early(tiers_of(tiered), planned(tiered, {"f": torch.arange(400)}))


def test_the_disk_is_opened_under_the_lock(tiered: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    state, locked = tiers_of(tiered), []

    def watched(*arguments: Any) -> DiskStore:
        locked.append(state.lock.owned())
        return open_disk(*arguments)

    monkeypatch.setattr(tiered_state, "open_disk", watched)
    staging.read_early(state, planned(tiered, random_batches(1)[0]))
    assert locked == [True]
