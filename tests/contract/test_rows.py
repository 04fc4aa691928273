"""read_rows, write_rows and renumber.

Sizes: U unique ids, D dim.
"""

import pytest
import torch

from recis_core.backends import SlotSpec, UpdateRule
from tests.contract.compare import assert_same
from tests.contract.recorded import Recorded
from tests.contract.test_gradient import IDS, TABLES, U
from tests.contract.test_slots import _table


@pytest.mark.parametrize("count", [U, 3, 0])
def test_rows_move_from_table_to_table_as_one_unit(backend: Recorded, count: int) -> None:
    one, rows = _table(backend)
    other, others = _table(backend)
    generator = torch.Generator().manual_seed(2)
    weights, slots = backend.read_rows(one.state, rows)
    changed = torch.randn(weights.shape, generator=generator).to(weights.dtype)
    given = {name: torch.randn(values.shape, generator=generator) for name, values in slots.items()}
    one.state = backend.write_rows(one.state, rows[:count], changed[:count], {n: v[:count] for n, v in given.items()})
    read, read_slots = backend.read_rows(one.state, rows)
    assert_same("weights", read, torch.cat([changed[:count], weights[count:]]))
    for name, values in slots.items():
        assert_same(name, read_slots[name], torch.cat([given[name][:count], values[count:]]))
    other.state = backend.write_rows(other.state, others, read, read_slots)
    again, again_slots = backend.read_rows(other.state, others)
    assert_same("weights", again, read)
    for name, values in read_slots.items():
        assert_same(name, again_slots[name], values)


def test_what_does_not_fit_is_refused(backend: Recorded) -> None:
    pair, rows = _table(backend)
    weights, slots = backend.read_rows(pair.state, rows)
    with pytest.raises(ValueError, match="slots must be"):
        backend.write_rows(pair.state, rows, weights, {})
    with pytest.raises(ValueError, match="weights must be"):
        backend.write_rows(pair.state, rows, weights[:, 1:], slots)
    with pytest.raises(ValueError, match="slot 'left' must be"):
        backend.write_rows(pair.state, rows, weights, slots | {"left": slots["left"][1:]})


def test_a_gradient_goes_where_its_rows_are_now(backend: Recorded) -> None:
    pair, rows = _table(backend)
    pair.state = backend.add_slots(pair.state, (SlotSpec("unused", 1),))
    ids, tables = torch.from_numpy(IDS), torch.from_numpy(TABLES)
    before, _ = backend.read_rows(pair.state, rows)
    values = torch.randn(before.shape, generator=torch.Generator().manual_seed(3))
    elsewhere = rows.flip(0)
    gradient = backend.gradient(pair.state, ids, tables, elsewhere, values)
    moved = backend.renumber(gradient, torch.where(torch.arange(U) % 2 == 0, rows, -1).int())
    hyper = torch.tensor([[0.5, 0.0, 0.0]]).expand(len(pair.spec.uids), -1).numpy()
    t = (1,) * len(pair.spec.uids)
    pair.state = backend.update(pair.state, moved, UpdateRule("sgd"), hyper=hyper, factor=1.0, t=t)
    after, _ = backend.read_rows(pair.state, rows)
    wanted = torch.where((torch.arange(U) % 2 == 0)[:, None], before - 0.5 * values, before)
    torch.testing.assert_close(after, wanted, rtol=1e-6, atol=1e-6)
    assert_same("left out", after[1::2], before[1::2])
    assert_same("values", backend.read_gradient(moved)[3], backend.read_gradient(gradient)[3])
