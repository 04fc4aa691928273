"""`make demo PRESET=tiny` trains to the same tables on pallas, jax and numba: keys, slots and rows bit for bit.

In `make test` on a part of its rows; whole in `make test-full`.
"""

import os

import pytest
import torch

from recis_core.cli.build import build_model, build_optimizer
from recis_core.cli.source import open_source
from recis_core.cli.train_config import TrainConfig
from recis_core.framework import TrainLoop
from recis_core.nn import filter_out_sparse_param

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
EXACT = ("ids", "tables", "slot_numbers", "row_numbers", "scores", "stamps", "free_rows")
# After steps that each feed on the last: Adam divides by the root of v, and so lifts a gradient's last bits.
RTOL = 1e-3


def trained(backend, optimizer):
    """Snapshots of the physical tables after the demo's training."""
    sizes = {} if FULL else {"rows": 1500, "batch_size": 512, "dim": 8}
    config = TrainConfig(preset="tiny", lr=3e-3, backend=backend, optimizer=optimizer, **sizes)
    torch.manual_seed(config.seed)
    source = open_source(config)
    model = build_model(config, source)
    loop = TrainLoop(model, build_optimizer(config, model))
    for batch in source.train_batches(config.batch_size, first_row=0):
        loop.train_step(batch)
    physical = {table.physical.names: table.physical for table in filter_out_sparse_param(model).values()}
    return {names: table.export() for names, table in physical.items()}


def same_tables(got, expected):
    assert got.keys() == expected.keys()
    for names, table in expected.items():
        for field in EXACT:
            assert torch.equal(getattr(got[names], field), getattr(table, field)), (names, field)
        assert (got[names].next_row, got[names].buckets) == (table.next_row, table.buckets)
        close(got[names].weights, table.weights, f"{names} weights")
        assert got[names].slots.keys() == table.slots.keys()
        for slot, values in table.slots.items():
            close(got[names].slots[slot], values, f"{names} {slot}")


def close(got, expected, name):
    torch.testing.assert_close(
        got, expected, rtol=RTOL, atol=RTOL * float(expected.abs().max()), msg=lambda m: f"{name}: {m}"
    )


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("rowwise_adagrad", marks=pytest.mark.full)])
def test_pallas_jax_and_numba_agree(optimizer):
    expected = trained("numba", optimizer)
    assert sum(len(table.ids) for table in expected.values()) > 1000
    same_tables(trained("jax", optimizer), expected)
    same_tables(trained("pallas", optimizer), expected)


def test_the_comparison_can_fail():
    tables = trained("numba", "adam")
    names = next(iter(tables))
    other = trained("numba", "adam")
    other[names].row_numbers = other[names].row_numbers.flip(0)
    with pytest.raises(AssertionError, match="row_numbers"):
        same_tables(other, tables)
    other = trained("numba", "adam")
    other[names].weights = other[names].weights + 0.01
    with pytest.raises(AssertionError, match="weights"):
        same_tables(other, tables)
