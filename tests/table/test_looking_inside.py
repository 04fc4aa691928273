"""Whoever looks inside a storage, as a script of one's own does, finds what the backend or the tiers keep."""

from __future__ import annotations

import pytest
import torch

from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption


@pytest.mark.parametrize("options", [{}, {"admit_hook": "frequency(1)"}, {"cache": CacheConfig(device_rows=8)}])
def test_state_and_pending_gradients(options: dict[str, object]) -> None:
    engine = EmbeddingEngine({"a": EmbeddingOption(4, backend="torch", **options)})  # type: ignore[arg-type]
    table = engine.table("a").physical
    engine({"a": torch.arange(5)})["a"].sum().backward()
    assert len(table._pending) == 1
    if "cache" in options:
        assert table.state is table.storage.tiers
    else:
        assert len(table.state.weights) >= 5
