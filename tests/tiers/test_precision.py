"""Colder rows in fewer bits: what comes back, what it is said to cost, and what cannot be kept so.

Sizes: n rows, D dim.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recis_core.backends import SlotSpec, TableSpec
from recis_core.backends.errors import RecisError
from recis_core.io import SyntheticClicks
from recis_core.metrics import auc
from recis_core.models import DeepFM
from recis_core.nn import CacheConfig, filter_out_sparse_param
from recis_core.optim import SparseAdam
from recis_core.table.tiers.row_format import RowFormat, Rows, new_marks

N, DIM = 500, 16
SLOTS = (SlotSpec("m", DIM), SlotSpec("sum", 1))
# Of a row's largest absolute value, or with bf16 and fp16 of each value: half a step.
HALF_STEPS = {"bf16": 2.0**-8, "fp16": 2.0**-11, "fp8": 2.0**-4, "int8": 0.5 / 127, "int4": 0.5 / 7}


def _rows(seed: int = 0) -> Rows:
    random = torch.Generator().manual_seed(seed)
    marks = new_marks(N)
    marks["score"], marks["used"], marks["version"] = np.arange(N), np.arange(N), 7
    slots = {"m": torch.randn(N, DIM, generator=random), "sum": torch.rand(N, 1, generator=random)}
    return Rows(torch.randn(N, DIM, generator=random), slots, marks)


@pytest.mark.parametrize("precision", HALF_STEPS)
def test_weights_come_back_within_half_a_step(precision: str) -> None:
    rows, kept = _rows(), RowFormat(TableSpec(DIM, (1,)), SLOTS, precision)
    back = kept.unpack(kept.pack(rows))
    each = rows.weights.abs() if precision in ("bf16", "fp16") else rows.weights.abs().amax(1, keepdim=True)
    left = (rows.weights - back.weights).abs()
    assert (left <= 1.0001 * HALF_STEPS[precision] * each + 1e-7).all()
    assert torch.equal(back.slots["m"], rows.slots["m"])
    assert torch.equal(back.slots["sum"], rows.slots["sum"])
    assert (back.marks == rows.marks).all()
    assert kept.row_bytes < RowFormat(TableSpec(DIM, (1,)), SLOTS).row_bytes


def test_what_it_cost_is_measured() -> None:
    rows, kept = _rows(), RowFormat(TableSpec(DIM, (1,)), SLOTS, "int8", "bf16")
    back = kept.unpack(kept.pack(rows))
    left = torch.cat([(rows.weights - back.weights).double(), (rows.slots["m"] - back.slots["m"]).double()])
    assert kept.rounding.values == left.numel()
    assert kept.rounding.rms == pytest.approx(float(left.square().mean().sqrt()), rel=1e-6)
    assert kept.rounding.largest == pytest.approx(float(left.abs().max()))
    assert torch.equal(back.slots["sum"], rows.slots["sum"]), "narrow slots stay float32"


def test_the_same_precision_keeps_every_bit() -> None:
    rows, kept = _rows(), RowFormat(TableSpec(DIM, (1,)), SLOTS)
    rows.weights[3, 5], rows.slots["m"][4, 6] = float("nan"), -0.0
    packed = kept.pack(rows)
    back = kept.unpack(packed)
    assert (kept.pack(back) == packed).all()
    assert back.weights[3, 5].isnan()
    assert kept.rounding.values == 0


def test_rows_that_few_bits_do_not_keep_are_refused() -> None:
    rows, kept = _rows(), RowFormat(TableSpec(DIM, (1,)), SLOTS, "int8")
    rows.weights[3, 5] = float("inf")
    with pytest.raises(RecisError, match=r"1 rows hold NaN or inf in 'weights', which int8 does not keep"):
        kept.pack(rows)


def _auc(cache: CacheConfig | None) -> tuple[float, DeepFM]:
    clicks = SyntheticClicks("tiny", 0)
    torch.manual_seed(0)
    model = DeepFM([f.name for f in clicks.preset.fields], 8, backend="numba", cache=cache)
    sparse = SparseAdam(filter_out_sparse_param(model), lr=0.01)
    dense = torch.optim.Adam(model.parameters(), lr=0.01)
    for batch in clicks.dataset(500, start=0, stop=30_000):
        dense.zero_grad()
        F.binary_cross_entropy_with_logits(model(batch), batch["label"]).backward()
        dense.step()
        sparse.step()
    test = list(clicks.dataset(1000, start=30_000, stop=34_000))
    return _evaluated(model, test), model


@torch.no_grad()
def _evaluated(model: nn.Module, batches: list[dict]) -> float:
    model.eval()
    logits = torch.cat([model(batch) for batch in batches])
    return auc(logits, torch.cat([batch["label"] for batch in batches]))


def test_a_model_with_cold_rows_in_few_bits_is_as_good(tmp_path: Path) -> None:
    """bf16 in host memory, int8 on disk, where most rows lie."""
    few = CacheConfig(
        device_rows="20%", host_rows="20%", disk=str(tmp_path), host_precision="bf16", disk_precision="int8"
    )
    exact, _ = _auc(None)
    rounded, model = _auc(few)
    assert abs(rounded - exact) < 0.003
    states = [table.physical.storage.tiers for table in filter_out_sparse_param(model).values()]
    assert sum(state.lower.disk_format.rounding.values for state in states if state is not None) > 0
