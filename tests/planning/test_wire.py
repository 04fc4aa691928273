"""Bytes of rows and ids on the wire: by hand, and against packed ids."""

from typing import get_args

import numpy as np
import pytest
import torch

from recis_core.backends import select
from recis_core.backends.spec import CODEC_IDS, RowCodec
from recis_core.planning.model_file import Codec, Precision
from recis_core.planning.wire import gradient_bytes, id_bytes, reduced_bytes, row_bytes


@pytest.mark.parametrize(
    ("codec", "even", "odd"),
    [
        ("fp32", 256, 28), ("bf16", 128, 14), ("fp16", 128, 14), ("fp8", 68, 11), ("int8", 68, 11), ("int4", 36, 8),
        ("sign", 12, 5), ("lossless", 89 + 1.28, 11 + 0.14),
    ],
)  # fmt: skip
def test_rows(codec, even, odd):
    assert (row_bytes(codec, 64), row_bytes(codec, 7)) == pytest.approx((even, odd), rel=1e-12)


def test_every_codec_of_an_exchange_can_be_planned():
    assert set(get_args(Codec)) == set(CODEC_IDS)


@pytest.mark.parametrize("dim", [7, 64])
def test_lossless_rows_as_they_are_encoded(dim):
    rows = torch.randn(4000, dim, generator=torch.Generator().manual_seed(0))
    encoded = select("torch").encode(rows, codec=RowCodec("lossless"))
    measured = (encoded.codes.numel() + encoded.tail.numel()) / len(rows)
    assert row_bytes("lossless", dim) == pytest.approx(measured, rel=0.01)


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
