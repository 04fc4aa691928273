"""The same steps by recis_core.jax under jit and by the torch side; and tables that move between the two."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import recis_core.jax as rj
from recis_core.errors import RecisError
from recis_core.jax.rows import snapshot_of
from recis_core.optim import SparseAdam
from tests.jax_tables.twins import CONFIG, JaxTwin, TorchTwin, assert_same, batches, step

STEPS = batches(100)


@pytest.fixture(scope="module")
def trained() -> tuple[JaxTwin, TorchTwin, list[float], list[float]]:
    ours, theirs = JaxTwin(), TorchTwin()
    return ours, theirs, ours.train(STEPS), theirs.train(STEPS)


def test_a_hundred_steps_end_in_the_same_table(trained):
    ours, theirs, our_losses, their_losses = trained
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-5)
    assert np.mean(our_losses[-10:]) < 0.7 * np.mean(our_losses[:10])
    snapshot = snapshot_of(ours.state)
    assert len(snapshot.ids) > 300
    assert snapshot.buckets == 2 * rj.create(CONFIG).buckets
    assert_same(snapshot, theirs.snapshot())


def test_no_size_compiles_twice(trained):
    ours = trained[0]
    before = step._cache_size()
    assert before == 2  # one for each capacity
    JaxTwin().train(STEPS[:3])
    copied = rj.from_table(trained[1].table)
    JaxTwin(copied).train(STEPS[:3])
    assert copied.config == ours.state.config
    assert step._cache_size() == before


def test_a_table_goes_on_in_jax_where_torch_left_it(trained):
    theirs, ours = TorchTwin(), JaxTwin()
    theirs.train(STEPS[:90])
    ours.train(STEPS[:90])
    ours.state = rj.from_table(theirs.table)
    left = theirs.snapshot()
    assert_same(snapshot_of(ours.state), left, rtol=0)
    ours.train(STEPS[90:])
    assert_same(snapshot_of(ours.state), trained[1].snapshot())
    assert_same(theirs.snapshot(), left, rtol=0)  # it was copied


def test_a_table_goes_on_in_torch_where_jax_left_it(trained):
    ours = trained[0]
    theirs = TorchTwin()
    theirs.train(STEPS[:2])
    rj.to_table(ours.state, theirs.table)
    assert_same(theirs.snapshot(), snapshot_of(ours.state), rtol=0)
    assert theirs.sparse.state_dict()["t"] == {"item": 100}
    assert theirs.table.physical.step == 100


def test_what_does_not_fit_leaves_the_table_as_it_was(trained):
    ours, theirs = trained[0], TorchTwin()
    theirs.train(STEPS[:2])
    before = theirs.snapshot()
    other = replace(ours.state, config=replace(CONFIG, seed=4))
    with pytest.raises(ValueError, match="seed=4.*must agree"):
        rj.to_table(other, theirs.table)
    alone = TorchTwin()
    del alone.sparse
    with pytest.raises(RecisError, match="Make the sparse optimizer first"):
        rj.to_table(ours.state, alone.table)
    assert_same(theirs.snapshot(), before, rtol=0)


def test_a_difference_is_seen(trained):
    snapshot = snapshot_of(trained[0].state)
    for change in ({"weights": snapshot.weights + 1e-3}, {"row_numbers": snapshot.row_numbers.flip(0)}):
        with pytest.raises(AssertionError):
            assert_same(snapshot, replace(copy.copy(snapshot), **change))


def test_waiting_gradients_are_refused():
    theirs = TorchTwin()
    theirs.engine({"item": torch.tensor([1, 2])})["item"].sum().backward()
    with pytest.raises(RecisError, match="wait for a step"):
        rj.from_table(theirs.table)
    assert isinstance(theirs.sparse, SparseAdam)
