"""What CacheStats says of a training call's ids: each counted once, with a Prefetcher or without.

Sizes: B ids of a batch.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recis_core.nn import EmbeddingEngine
from tests.tiers.training import adam, cache_in, engine_of, tiers_of, train_ahead
from tests.training.loop import B, random_batches


@pytest.mark.parametrize("depth", [0, 1, 4])
@pytest.mark.parametrize("device_rows", [8, 24, "60%"])
def test_every_id_is_counted_once(tmp_path: Path, device_rows: int | str, depth: int) -> None:
    """Where calls overflow, where they fit, and where the device grows while rows are staged."""
    engine, batches = engine_of(cache_in(tmp_path, device_rows, "80%")), random_batches(80, ids=4000)
    train_ahead(engine, adam(engine), batches, depth)
    counts = tiers_of(engine).stats.counts
    assert counts["occurrences"] == 80 * B
    assert keys_found(engine) == sum(len(batch["f"].unique()) for batch in batches)
    assert counts["new"] == tiers_of(engine).inserted == len(engine.table("f").ids())
    assert counts["hits_device"] <= counts["occurrence_hits"] < counts["occurrences"] - counts["new"]


def keys_found(engine: EmbeddingEngine) -> int:
    return sum(tiers_of(engine).stats.counts[name] for name in ("hits_device", "hits_host", "hits_disk", "new"))


@pytest.mark.parametrize("depth", [0, 3])
def test_ids_are_counted_once_where_not_all_are_admitted(tmp_path: Path, depth: int) -> None:
    """Those that have a row or get one; no row is made ahead for others."""
    engine = engine_of(cache_in(tmp_path), admit_hook="frequency(3)")
    batches, seen = random_batches(60), torch.zeros(400, dtype=torch.int64)
    train_ahead(engine, adam(engine), batches, depth)
    asked = keys = 0
    for batch in batches:
        seen += batch["f"].bincount(minlength=400)
        admitted = batch["f"][seen[batch["f"]] >= 3]
        asked, keys = asked + len(admitted), keys + len(admitted.unique())
    counts = tiers_of(engine).stats.counts
    assert (counts["occurrences"], keys_found(engine)) == (asked, keys)
    assert counts["new"] == tiers_of(engine).inserted == int((seen >= 3).sum())
    assert min(counts["hits_host"], counts["hits_disk"]) > 10
    assert counts["hits_device"] <= counts["occurrence_hits"] < asked - counts["hits_host"]
