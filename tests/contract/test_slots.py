"""read_slot and write_slot.

Sizes: U unique ids, D dim.
"""

import pytest
import torch

from recis_core.backends import Clock, LookupMode, SlotSpec
from tests.contract.compare import assert_same
from tests.contract.pair import Pair, make_spec
from tests.contract.recorded import Recorded
from tests.contract.test_gradient import IDS, TABLES, U

D = 7


def _table(backend: Recorded) -> tuple[Pair, torch.Tensor]:
    pair = Pair(backend, make_spec())
    pair.state = backend.add_slots(pair.state, (SlotSpec("left", D), SlotSpec("sum", 1, 0.5)))
    return pair, backend.lookup(pair.state, *map(torch.from_numpy, (IDS, TABLES)), mode=LookupMode(), clock=Clock())[1]


def test_new_rows_read_as_initial(backend: Recorded) -> None:
    pair, rows = _table(backend)
    assert_same("left", backend.read_slot(pair.state, "left", rows), torch.zeros(U, D))
    assert_same("sum", backend.read_slot(pair.state, "sum", rows), torch.full((U, 1), 0.5))


def test_what_is_written_is_read_and_nothing_else_changes(backend: Recorded) -> None:
    pair, rows = _table(backend)
    values = torch.randn(U, D, generator=torch.Generator().manual_seed(1))
    some = rows.clone()
    some[[2, 5]] = -1
    pair.state = backend.write_slot(pair.state, "left", some, values)
    want = values.clone()
    want[[2, 5]] = 0
    assert_same("left", backend.read_slot(pair.state, "left", rows), want)
    assert_same("sum", backend.read_slot(pair.state, "sum", rows), torch.full((U, 1), 0.5))


def test_unknown_rows_read_as_zeros(backend: Recorded) -> None:
    pair, rows = _table(backend)
    pair.state = backend.write_slot(pair.state, "left", rows, torch.ones(U, D))
    read = backend.read_slot(pair.state, "left", torch.tensor([-1, int(rows[0]), -1], dtype=torch.int32))
    assert_same("left", read, torch.tensor([[0.0], [1.0], [0.0]]).expand(3, D))


def test_no_rows(backend: Recorded) -> None:
    pair, _ = _table(backend)
    none = torch.zeros(0, dtype=torch.int32)
    pair.state = backend.write_slot(pair.state, "left", none, torch.zeros(0, D))
    assert backend.read_slot(pair.state, "left", none).shape == (0, D)


def test_a_slot_that_is_not_there(backend: Recorded) -> None:
    pair, rows = _table(backend)
    with pytest.raises(KeyError, match="other"):
        backend.read_slot(pair.state, "other", rows)
    with pytest.raises(KeyError, match="other"):
        backend.write_slot(pair.state, "other", rows, torch.zeros(U, D))
