"""Rows and gradients through each codec between ranks, and what error feedback keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recis_core.nn import ConstantInitializer, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD
from tests.exchange.models import assert_same_tables, united
from tests.exchange.ranks import run_ranks
from tests.exchange.test_worlds import alone, together

D = 8


def _ids(rank: int, step: int) -> torch.Tensor:
    rng = np.random.default_rng(10 * step + rank)
    return torch.from_numpy(rng.integers(-40, 40, 30) * 2**40)


def _grads(rank: int, step: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(99 + 10 * step + rank).normal(size=(30, D)).astype(np.float32))


def ledger(rank: int, world: int, precision: str, steps: int, residual_bytes: int) -> dict[str, Any]:
    """SGD with lr 1 from zero rows: a row is minus all gradient that arrived, ÷ world. And what is kept here."""
    option = EmbeddingOption(
        D, initializer=ConstantInitializer(0.0), combiner="sum", precision=precision, residual_bytes=residual_bytes
    )
    engine = EmbeddingEngine({"f": option})
    optimizer = SparseSGD(engine.sparse_parameters(), lr=1.0)
    for step in range(steps):
        out = engine({"f": _ids(rank, step)})["f"]
        (out * _grads(rank, step)).sum().backward()
        optimizer.step()
    table = engine.table("f").physical
    kept = table.residuals.rows.snapshot() if table.residuals else None
    mine = engine.table("f").snapshot()
    return {
        "rows": dict(zip(mine.ids.tolist(), mine.weights.double().numpy(), strict=True)),
        "kept": {}
        if kept is None
        else dict(zip(kept.ids.tolist(), kept.slots["values"].double().numpy(), strict=True)),
        "overflowed": table.residuals.overflowed if table.residuals else 0,
        "capacity": table.residuals.rows.capacity if table.residuals else 0,
    }


def _true(world: int, steps: int) -> dict[int, np.ndarray]:
    total: dict[int, np.ndarray] = {}
    for rank in range(world):
        for step in range(steps):
            for i, g in zip(_ids(rank, step).tolist(), _grads(rank, step).double().numpy(), strict=True):
                total[i] = total.get(i, np.zeros(D)) + g
    return total


CODECS = ["int8+ef", "int4+ef", "int4+sr+ef", "sign+ef", "fp8+ef", "bf16+ef", "topk(20%,fp32)+ef", "topk(10%,int8)+ef"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("room", [1 << 20, 2000], ids=["room", "overflow"])
def test_sent_and_residual_are_all(codec: str, room: int) -> None:
    """Σ sent + residual = Σ true, also where residuals find no room and rows go exactly."""
    ranks = run_ranks(2, ledger, f"forward=fp32,backward={codec}", 5, room)
    true = _true(2, 5)
    got = {i: -2 * row for r in ranks for i, row in r["rows"].items()}
    for r in ranks:
        for i, left in r["kept"].items():
            got[i] = got.get(i, np.zeros(D)) + left
    assert got.keys() == true.keys()
    ids = sorted(true)
    np.testing.assert_allclose(np.stack([got[i] for i in ids]), np.stack([true[i] for i in ids]), rtol=1e-4, atol=1e-4)
    assert all(len(r["kept"]) <= r["capacity"] for r in ranks)
    assert (min(r["overflowed"] for r in ranks) > 0) == (room == 2000)


def test_nothing_is_kept_where_nothing_is_lost() -> None:
    assert all(not r["kept"] for r in run_ranks(2, ledger, "fp32+ef", 3, 1 << 20))


@pytest.mark.parametrize(
    ("precision", "rtol"),
    [
        ("bf16", 2e-2),
        ("lossless", 2e-2),
        ("fp16", 5e-3),
        ("int8", 5e-2),
        ("fp8", 0.2),
        ("forward=int8+ef,backward=int4+ef", 0.5),
    ],
)
def test_training_stays_near_fp32(precision: str, rtol: float) -> None:
    """Within what the codec rounds by, of the largest value: the bound is loose, the identity above is tight."""
    ranks = together(2, "sgd", 4, precision=precision)
    want = alone("sgd", 4)["rows"]
    assert_same_tables(united([r["rows"] for r in ranks]), want, rtol)


def test_lossless_is_bf16_on_the_way() -> None:
    bf16, lossless = (together(2, "sgd", 4, precision=p) for p in ("bf16", "lossless"))
    assert_same_tables(united([r["rows"] for r in lossless]), united([r["rows"] for r in bf16]), 0.0)


def test_a_schedule_begins_as_its_first_piece() -> None:
    plain, scheduled = (together(2, "adam", 3, precision=p) for p in ("fp32", "fp32@3,int4"))
    assert_same_tables(united([r["rows"] for r in scheduled]), united([r["rows"] for r in plain]), 0.0)


def test_auto_goes_down_within_its_bound() -> None:
    """Thirty steps: from fp32 by bf16 towards int8, whose error on such rows is below 2 %."""
    chosen = run_ranks(2, auto, 40)
    assert chosen[0] == chosen[1]
    assert chosen[0] == ("int8", "int8")


def auto(rank: int, world: int, steps: int) -> tuple[str, str]:
    option = EmbeddingOption(D, precision="auto(0.02,int4|int8|bf16|fp32)")
    engine = EmbeddingEngine({"f": option})
    optimizer = SparseSGD(engine.sparse_parameters(), lr=1e-3)
    for step in range(steps):
        out = engine({"f": _ids(rank, step)})["f"]
        (out * _grads(rank, step)).sum().backward()
        optimizer.step()
    table = engine.table("f").physical
    return table.to_rows.at(table.step).row.kind, table.to_gradients.at(table.step).row.kind


def test_alone_is_the_same_whatever_the_precision() -> None:
    assert_same_tables(alone(precision="int4+ef")["rows"], alone()["rows"], 0.0)
