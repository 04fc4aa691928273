"""How results are compared, always in this order: shape, dtype, values. test_compare.py shows each helper failing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.records import Snapshot

RTOL = {  # forward, gradient
    torch.float32: (1e-5, 1e-4),
    torch.float16: (2e-3, 5e-3),
    torch.bfloat16: (1.6e-2, 3e-2),
}
PLACEMENT = ("ids", "tables", "slot_numbers", "row_numbers", "scores", "stamps", "free_rows")


def assert_close(name: str, got: Tensor, want: np.ndarray, dtype: torch.dtype, *, gradient: bool = False) -> None:
    """got has want's shape, the dtype, and want's values within the tolerances below."""
    assert tuple(got.shape) == want.shape, f"{name}: shape {tuple(got.shape)}, wanted {want.shape}"
    assert got.dtype == dtype, f"{name}: {got.dtype}, wanted {dtype}"
    rtol = RTOL[dtype][gradient]
    atol = rtol * float(np.abs(want).max(initial=0))
    np.testing.assert_allclose(got.detach().cpu().double().numpy(), want, rtol=rtol, atol=atol, err_msg=name)


def assert_same(name: str, got: Tensor, want: Tensor) -> None:
    """Same shape, dtype and bits; NaN equals NaN."""
    assert got.shape == want.shape, f"{name}: shape {tuple(got.shape)}, wanted {tuple(want.shape)}"
    assert got.dtype == want.dtype, f"{name}: {got.dtype}, wanted {want.dtype}"
    got, want = got.detach().cpu().contiguous(), want.detach().cpu().contiguous()
    if not torch.equal(got.view(torch.uint8) if got.numel() else got, want.view(torch.uint8) if want.numel() else want):
        at = (got != want).nonzero()[:3].tolist()
        raise AssertionError(f"{name}: {int((got != want).sum())} of {got.numel()} differ, first at {at}")


def assert_same_placement(got: Snapshot, want: Snapshot) -> None:
    """Every key in the same way and row, with the same score and stamp; the same rows free."""
    assert (got.buckets, got.next_row) == (want.buckets, want.next_row), (
        f"buckets, next_row: {got.buckets}, {got.next_row}, wanted {want.buckets}, {want.next_row}"
    )
    for name in PLACEMENT:
        assert_same(name, getattr(got, name), getattr(want, name))


def assert_same_table(got: Snapshot, want: Snapshot) -> None:
    """The same placement and the same bits in weights and slots."""
    assert_same_placement(got, want)
    assert_same("weights", got.weights, want.weights)
    assert set(got.slots) == set(want.slots), f"slots {sorted(got.slots)}, wanted {sorted(want.slots)}"
    for name in want.slots:
        assert_same(name, got.slots[name], want.slots[name])
