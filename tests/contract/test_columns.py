"""A table of some columns of wider rows begins as those columns do."""

import numpy as np
import pytest
import torch

from recis_core.backends import Clock, LookupMode, TableSpec
from recis_core.backends.initial_values import Distribution, initial_values
from tests.contract.cases import UIDS
from tests.contract.compare import assert_same
from tests.contract.pair import SEED, make_spec
from tests.contract.recorded import Recorded
from tests.contract.test_gradient import IDS, TABLES

NORMAL = Distribution("normal", 0.0, 1.0)


@pytest.mark.parametrize(("first", "dim"), [(0, 7), (2, 4), (6, 3), (100, 8)])
def test_columns_of_a_wider_row(backend: Recorded, first: int, dim: int) -> None:
    state = backend.create(make_spec(dim=dim, first_column=first, distribution=NORMAL))
    ids, tables = map(torch.from_numpy, (IDS, TABLES))
    unknown = torch.full((len(ids),), -1, dtype=torch.int32)
    wide = initial_values(NORMAL, SEED, np.array(UIDS, np.uint32)[TABLES], IDS, first + dim)
    want = torch.from_numpy(wide[:, first:].copy())
    assert_same("unknown", backend.gather(state, unknown, ids, tables, unknown="initial"), want)
    state, rows, _ = backend.lookup(state, ids, tables, mode=LookupMode(), clock=Clock())
    assert_same("inserted", backend.gather(state, rows, ids, tables), want)


@pytest.mark.parametrize(("first", "dtype"), [(3, "float32"), (-2, "float32"), (2, "bfloat16")])
def test_what_cannot_be(first: int, dtype: str) -> None:
    with pytest.raises(ValueError, match="first_column"):
        TableSpec(4, (1,), dtype=dtype, first_column=first)
