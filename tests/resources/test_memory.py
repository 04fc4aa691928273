"""A long run over a fixed id set holds its memory."""

import gc
import os
from pathlib import Path

import pytest
import torch

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam
from recis_core.ragged import RaggedTensor

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
STEPS, WARM_UP = (10_000, 1_000) if FULL else (900, 300)


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from Linux's /proc")
@pytest.mark.parametrize("name", ["torch", "numba", pytest.param("jax", marks=pytest.mark.full)])
def test_resident_memory_is_flat_after_growth(name):
    engine = EmbeddingEngine({"f": EmbeddingOption(16, backend=name), "g": EmbeddingOption(8, backend=name)})
    optimizer = SparseAdam(engine.sparse_parameters())
    draw = torch.Generator().manual_seed(0)
    engine({"f": torch.arange(20_000), "g": torch.arange(20_000)})
    seen = []
    for step in range(STEPS):
        n = int(torch.randint(1, 400, (1,), generator=draw))
        ids = torch.randint(0, 20_000, (n,), generator=draw)
        out = engine({"f": RaggedTensor(ids, torch.tensor([0, n // 2, n])), "g": ids})
        optimizer.zero_grad()
        (out["f"].sum() + out["g"].sum()).backward()
        optimizer.step()
        if step >= WARM_UP and step % 100 == 0:
            gc.collect()
            seen.append(resident())
    assert max(seen) <= 1.05 * seen[0], [f"{s / 2**20:.1f} MiB" for s in seen]
