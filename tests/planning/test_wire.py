"""Bytes of rows and ids on the wire: by hand, and against packed ids."""

import numpy as np
import pytest

from recis_core.planning.model_file import Precision
from recis_core.planning.wire import gradient_bytes, id_bytes, reduced_bytes, row_bytes


@pytest.mark.parametrize(
    ("codec", "even", "odd"),
    [
        ("fp32", 256, 28), ("bf16", 128, 14), ("fp16", 128, 14), ("fp8", 68, 11), ("int8", 68, 11), ("int4", 36, 8),
        ("sign", 12, 5),
    ],
)  # fmt: skip
def test_rows(codec, even, odd):
    assert (row_bytes(codec, 64), row_bytes(codec, 7)) == (even, odd)


def test_gradients():
    assert gradient_bytes(Precision(backward="int8"), 64, 1) == 68
    assert gradient_bytes(Precision(backward="int8"), 64, 2) == 72
    assert gradient_bytes(Precision(backward="fp32", topk=0.25), 64, 1) == 64 + 1 / 8
    assert [reduced_bytes(Precision(backward=b), 64) for b in ("fp32", "bf16", "fp16", "int4")] == [256, 128, 128, 256]


def packed_bytes(ids):
    """Bit-packed differences in frames of 128, a first id of 8 bytes and a width of 4 for each."""
    ids = np.sort(ids)
    total = 0
    for begin in range(0, len(ids), 128):
        widest = int(np.diff(ids[begin : begin + 128]).max(initial=0))
        total += 12 + 16 * widest.bit_length()
    return total


@pytest.mark.parametrize("bits", [24, 40, 63])
@pytest.mark.parametrize("n", [8 * 128 + 64, 128 * 128 + 64, 555 * 128 + 64])
def test_packed_ids(bits, n):
    """The last frame half full, as it is on average."""
    ids = np.unique(np.random.default_rng(0).integers(0, 1 << bits, 2 * n))
    ids = np.random.default_rng(1).choice(ids, n, replace=False)
    assert id_bytes(Precision(), bits, len(ids)) * len(ids) == pytest.approx(packed_bytes(ids), rel=0.03)


def test_ids_never_take_more_than_int64():
    assert id_bytes(Precision(ids="int64"), 10, 1e6) == 8
    assert id_bytes(Precision(), 64, 2) == id_bytes(Precision(), 64, 0) == 8
    assert 0 < id_bytes(Precision(), 8, 1e9) < 0.3
