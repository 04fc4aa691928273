"""Pooling of bags that hypothesis draws.

Sizes: N ids, U unique ids, D dim.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recis_core import backends
from recis_core.backends.selection import NAMES
from tests.contract.compare import assert_close
from tests.contract.recorded import Recorded
from tests.reference import pooling

D = 3
EXAMPLES = {"torch": 40, "numba": 40, "jax": 6, "pallas": 4}  # each shape may be a compilation
COMBINERS = st.sampled_from(["sum", "mean", "sqrtn", "tile", "none"])
LENGTHS = st.lists(st.integers(0, 9), max_size=12)


def _check(backend: Recorded, lengths: list[int], combiner: str, weighted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    inverse = rng.integers(0, 5, offsets[-1])
    rows = rng.normal(size=(5, D)).astype(np.float32)
    weights = rng.uniform(0.5, 2, len(inverse)).astype(np.float32) if weighted else None
    tile_len = 4 if combiner == "tile" else None
    given_ = (torch.from_numpy(rows), torch.from_numpy(inverse.astype(np.int32)), torch.from_numpy(offsets))
    w = None if weights is None else torch.from_numpy(weights)
    out = backend.pool(*given_, w, combiner=combiner, tile_len=tile_len)
    want = pooling.pool(rows, inverse, offsets, weights, combiner, tile_len)
    assert_close("pool", out, want, torch.float32)
    grad = torch.from_numpy(rng.normal(size=want.shape).astype(np.float32))
    got = backend.pool_grad(grad, *given_, w, combiner=combiner, tile_len=tile_len, weights_need_grad=weighted)
    to_rows, to_weights = pooling.pool_grad(grad.numpy(), rows, inverse, offsets, weights, combiner, tile_len)
    assert_close("gradient to rows", got[0], to_rows, torch.float32, gradient=True)
    if weighted:
        assert_close("gradient to weights", got[1], to_weights, torch.float32, gradient=True)


@pytest.mark.parametrize("name", NAMES)
def test_ragged_shapes(name: str) -> None:
    backend = Recorded(name, backends.get(name))

    @settings(
        max_examples=EXAMPLES[name], deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(LENGTHS, COMBINERS, st.booleans(), st.integers(0, 99))
    def run(lengths: list[int], combiner: str, weighted: bool, seed: int) -> None:
        _check(backend, lengths, combiner, weighted, seed)

    run()
