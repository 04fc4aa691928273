"""Hashes of byte lists beside independent implementations, for every length; and what is refused."""

from __future__ import annotations

import farmhash as google
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recis_core.hashing import djb2, farmhash, murmurhash, sdbm
from tests.hashing import reference
from tests.ragged.implementations import implementation  # noqa: F401

LENGTHS = [*range(301), 511, 1000, 4096, 5001]
HASHES = {
    farmhash: lambda text: reference.signed(google.Fingerprint64(text)),
    murmurhash: reference.murmur64a,
    sdbm: reference.sdbm,
    djb2: reference.djb2,
}


def column(texts: list[bytes]) -> tuple[Tensor, Tensor]:
    letters = np.frombuffer(b"".join(texts), np.uint8).copy()
    return torch.from_numpy(letters).to(torch.get_default_device()), torch.tensor(np.cumsum([0, *map(len, texts)]))


def texts_of(lengths: list[int], seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, length, np.uint8).tobytes() for length in lengths]


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("hash_of", HASHES)
def test_every_length(hash_of) -> None:
    for texts in (texts_of(LENGTHS, 0), [bytes([255]) * n for n in LENGTHS[::-1]], [bytes(n) for n in LENGTHS]):
        assert hash_of(*column(texts)).tolist() == [HASHES[hash_of](text) for text in texts]


@pytest.mark.usefixtures("implementation")
def test_the_numbers_of_recis() -> None:
    data, offsets = torch.tensor([0, 1, 2, 1, 2, 3], dtype=torch.int8), torch.tensor([0, 3, 6], dtype=torch.int32)
    assert farmhash(data, offsets).tolist() == [-7736835464683084646, -5546720800891377920]
    assert murmurhash(data, offsets).tolist() == [-4003751876240412087, -1042754718167355375]
    digits, one = torch.tensor(list(b"123"), dtype=torch.uint8), torch.tensor([0, 3])
    assert (djb2(digits, one).item(), sdbm(digits, one).item()) == (193432059, 210861491250)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("seed", [1, 2**63, 2**64 - 1])
def test_seeds_of_murmur(seed: int) -> None:
    texts = texts_of([0, 1, 7, 8, 9, 100], 1)
    assert murmurhash(*column(texts), seed).tolist() == [reference.murmur64a(text, seed) for text in texts]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=150), max_size=20), max_size=4), st.sampled_from([*HASHES]))
def test_columns_and_batches_do_not_matter(columns: list[list[bytes]], hash_of) -> None:
    """One by one, all in one call, and cut in two: on loops and in torch the same bits."""
    expected = [[HASHES[hash_of](text) for text in texts] for texts in columns]
    for name in ("numba", "torch"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RECIS_BACKEND", name)
            made = [column(texts) for texts in columns]
            fused = hash_of([data for data, _ in made], [offsets for _, offsets in made])
            assert [found.tolist() for found in fused] == expected
            assert [hash_of(*one).tolist() for one in made] == expected
            halves = [(texts[: len(texts) // 2], texts[len(texts) // 2 :]) for texts in columns]
            assert [[h for half in both for h in hash_of(*column(half)).tolist()] for both in halves] == expected


@pytest.mark.usefixtures("implementation")
def test_shapes_of_tensors() -> None:
    """Not contiguous, signed, of either width of offsets, and of none."""
    data, offsets = column(texts_of([5, 0, 80], 2))
    apart = torch.stack([data, data], 1)[:, 0]
    assert torch.equal(farmhash(apart, torch.stack([offsets, offsets], 1)[:, 1].int()), farmhash(data, offsets))
    assert torch.equal(sdbm(data.view(torch.int8), offsets), sdbm(data, offsets))
    assert farmhash(data[:0], offsets[:1]).shape == (0,)
    assert farmhash([], []) == []


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([0, 3, 2, 4], "must not decrease; got offsets[1] = 3, offsets[2] = 2"),
        ([0, -1, 4], "must not decrease; got offsets[0] = 0, offsets[1] = -1"),
        ([0, 9, 4], "must not decrease; got offsets[1] = 9, offsets[2] = 4"),
        ([1, 4], "must run from 0 to len(data) = 4; they run from 1 to 4"),
        ([0, 5], "they run from 0 to 5"),
        ([], "must be [N + 1]"),
        ([[0, 4]], "must be [N + 1]"),
    ],
)
def test_offsets_that_do_not_fit(offsets: list[int], words: str) -> None:
    with pytest.raises(ValueError) as error:
        farmhash(torch.zeros(4, dtype=torch.uint8), torch.tensor(offsets, dtype=torch.int64))
    assert words in str(error.value)


def test_what_is_refused() -> None:
    data, offsets = column([b"abcd"])
    with pytest.raises(TypeError, match="data must be uint8 or int8; got torch.int64"):
        farmhash(data.long(), offsets)
    with pytest.raises(TypeError, match="offsets must be int64 or int32; got torch.float32"):
        murmurhash(data, offsets.float())
    with pytest.raises(ValueError, match="offsets must be as many as columns of data = 2; got 1"):
        farmhash([data, data], [offsets])
    with pytest.raises(TypeError, match="must be a tensor, or a list of tensors; got bytes"):
        djb2(b"abcd", offsets)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="seed must be from 0"):
        murmurhash(data, offsets, -1)
    with pytest.raises(ValueError, match="one device; got cpu and meta"):
        farmhash(data, offsets.to("meta"))
