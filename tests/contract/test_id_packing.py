"""pack_ids and unpack_ids: on every backend the same bytes, the ids again, and an error for anything else."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.contract.compare import assert_same
from tests.contract.recorded import Recorded

INT64 = np.iinfo(np.int64)
RNG = np.random.default_rng(3)
CASES = {
    "no_ids": np.zeros(0, np.int64),
    "one_id": np.array([-5]),
    "two_frames_less_one": np.arange(255) * 3,
    "a_whole_frame": np.arange(128),
    "a_frame_and_one": np.arange(129),
    "same_id_500_times": np.full(500, 11),
    "sorted": np.sort(RNG.integers(0, 1 << 40, 1000)),
    "unsorted": RNG.integers(-(1 << 40), 1 << 40, 700),
    "negative_ids": np.sort(RNG.integers(-(1 << 62), 0, 300)),
    "ids_above_2**52": np.sort((1 << 52) + RNG.integers(0, 1 << 20, 300)),
    "extremes": np.array([INT64.min, INT64.max, 0, -1, INT64.max, INT64.min, 1, INT64.min]),
    "every_width": np.cumsum([(1 << (frame % 64)) + k % 3 for frame in range(64) for k in range(128)], dtype=np.uint64)
    .astype(np.int64),
    "whole_range": np.sort(RNG.integers(INT64.min, INT64.max, 2000)),
}  # fmt: skip


def packed(ids: np.ndarray) -> bytes:
    """The format in Python's integers."""
    bases, widths, words = b"", b"", b""
    for start in range(0, len(ids), 128):
        frame = [int(i) for i in ids[start : start + 128]]
        differences = [0] + [(b - a) % (1 << 64) for a, b in pairwise(frame)]
        width = max(d.bit_length() for d in differences)
        lanes = [sum(d << (k * width) for k, d in enumerate(differences[lane::4])) for lane in range(4)]
        bases += frame[0].to_bytes(8, "little", signed=True)
        widths += bytes([width])
        for word in range(width):
            words += b"".join((lane >> (32 * word) & 0xFFFFFFFF).to_bytes(4, "little") for lane in lanes)
    return bases + widths + words


@pytest.mark.parametrize("name", CASES)
def test_bytes_and_back(backend: Recorded, name: str) -> None:
    ids = torch.from_numpy(CASES[name].astype(np.int64))
    got = backend.pack_ids(ids)
    assert_same(
        "packed", got, torch.frombuffer(bytearray(packed(CASES[name])), dtype=torch.uint8) if len(ids) else got[:0]
    )
    assert_same("ids", backend.unpack_ids(got, len(ids)), ids)


def test_golden_bytes(backend: Recorded) -> None:
    """A wire format: these bytes never change."""
    got = backend.pack_ids(torch.tensor([-2, 5, 5, 1000, 1001, 1064]))
    assert bytes(got.tolist()).hex() == GOLDEN


GOLDEN = (
    "feffffffffffffff0a0004000007fc000000000000e30300000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000"
)


def test_sorted_ids_take_few_bits(backend: Recorded) -> None:
    ids = torch.arange(0, 1280 * 9, 9)
    assert len(backend.pack_ids(ids)) == 10 * (9 + 16 * 4)


def test_wrong_lengths_raise(backend: Recorded) -> None:
    ids = torch.arange(0, 3000, 10)
    good = backend.pack_ids(ids)
    for size in range(0, len(good), 7):
        with pytest.raises(ValueError, match="packed must"):
            backend.unpack_ids(good[:size], 300)
    with pytest.raises(ValueError, match="packed must have"):
        backend.unpack_ids(torch.cat([good, good[:1]]), 300)
    for count in (0, 128, 256, 385, 1 << 60):
        with pytest.raises(ValueError, match="packed "):
            backend.unpack_ids(good, count)
    with pytest.raises(ValueError, match="count must be at least 0"):
        backend.unpack_ids(good, -1)


def test_a_wrong_width_raises(backend: Recorded) -> None:
    good = backend.pack_ids(torch.arange(0, 3000, 10))
    for width in (65, 128, 255):
        bad = good.clone()
        bad[8 * 3 + 1] = width
        with pytest.raises(ValueError, match=f"width {width}"):
            backend.unpack_ids(bad, 300)
    bad = good.clone()
    bad[8 * 3] += 1
    with pytest.raises(ValueError, match="packed must have"):
        backend.unpack_ids(bad, 300)


def test_other_kinds_raise(backend: Recorded) -> None:
    with pytest.raises(ValueError, match="ids must be int64"):
        backend.pack_ids(torch.zeros(3, dtype=torch.int32))
    with pytest.raises(ValueError, match="packed must be uint8"):
        backend.unpack_ids(torch.zeros(9, dtype=torch.int8), 1)
