"""partition: every id is counted once, under the right key and slice."""

import numpy as np
import pytest
import torch

from recis_core.backends import placement
from tests.contract.cases import CASES, UIDS, Case
from tests.contract.pair import make_spec, tensors, unique_keys
from tests.contract.recorded import Recorded

SOME = [c for c in CASES if c.name in ("no_ids_at_all", "same_id_500_times", "extreme_ids", "several_tables", "dim_7")]


@pytest.mark.parametrize("case", SOME, ids=str)
def test_partition(backend: Recorded, case: Case) -> None:
    state = backend.create(make_spec())
    keys = backend.partition(state, *tensors(case.ids, case.ordinals))
    want_ids, want_tables, _ = unique_keys(case.ids, case.ordinals)
    dtypes = [t.dtype for t in (keys.ids, keys.tables, keys.inverse, keys.counts, keys.slices)]
    assert dtypes == [torch.int64, *[torch.int32] * 4]
    assert len(keys.ids) == len(keys.tables) == len(keys.counts) == len(keys.slices) == len(want_ids)
    order = np.lexsort((keys.ids.numpy(), keys.tables.numpy()))
    np.testing.assert_array_equal(keys.ids.numpy()[order], want_ids)
    np.testing.assert_array_equal(keys.tables.numpy()[order], want_tables)
    np.testing.assert_array_equal(keys.ids.numpy()[keys.inverse], case.ids)
    np.testing.assert_array_equal(keys.tables.numpy()[keys.inverse], case.ordinals)
    np.testing.assert_array_equal(keys.counts, np.bincount(keys.inverse, minlength=len(keys.ids)))
    uids = np.asarray(UIDS, np.uint32)[keys.tables]
    np.testing.assert_array_equal(keys.slices, placement.slices(keys.ids.numpy(), uids).astype(np.int32))
