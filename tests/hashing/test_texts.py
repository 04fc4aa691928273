"""Hashes of Arrow's text, of each of its types, beside xxhash, FarmHash and a reference."""

from __future__ import annotations

import farmhash as google
import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.hashing import hash_texts
from tests.hashing import reference
from tests.hashing.test_byte_lists import texts_of

KINDS = {
    "xxh3": lambda text: reference.signed(xxhash.xxh3_64_intdigest(text)),
    "farm": lambda text: reference.signed(google.Fingerprint64(text)),
    "murmur": reference.murmur64a,
}
BYTES = [pa.binary(), pa.large_binary(), pa.binary_view()]
STRINGS = [pa.string(), pa.large_string(), pa.string_view()]
TEXTS = st.lists(st.none() | st.text(max_size=40), max_size=20)


def hashes(kind: str, texts: list[bytes | str | None]) -> list[int | None]:
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    return [None if text is None else KINDS[kind](text) for text in raw]


def test_xxh3_of_every_length() -> None:
    for texts in (
        texts_of([*range(2001)], 3),
        [bytes(n) for n in range(2001)],
        texts_of([2048, 2049, 10_000, 123_456], 4),
    ):
        assert hash_texts(pa.array(texts, pa.binary())).to_pylist() == hashes("xxh3", texts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_type(kind: str) -> None:
    raw = [None if n % 5 == 1 else text for n, text in enumerate(texts_of([*range(40)], 5))]
    words = ["", None, "é" * 20, "a", "twelve bytes", "thirteen byte", "null\0inside", None]
    for found, expected in ((pa.array(raw, t), hashes(kind, raw)) for t in BYTES):
        assert hash_texts(found, kind).to_pylist() == expected, found.type
    for found in (pa.array(words, pa.string()).cast(t) for t in STRINGS):
        assert hash_texts(found, kind).to_pylist() == hashes(kind, words), found.type
    for index in (pa.int8(), pa.uint16(), pa.int64()):
        encoded = pa.array(words).dictionary_encode().cast(pa.dictionary(index, pa.string()))
        assert hash_texts(encoded, kind).to_pylist() == hashes(kind, words)
    fixed = [b"abcd", None, b"wxyz", b"\0\0\0\0"]
    assert hash_texts(pa.array(fixed, pa.binary(4)), kind).to_pylist() == hashes(kind, fixed)
    assert hash_texts(pa.array([b"", None], pa.binary(0)), kind).to_pylist() == hashes(kind, [b"", None])
    assert hash_texts(pa.nulls(2), kind).to_pylist() == [None, None]


def test_types_around_text() -> None:
    words = ["a", "a", None, "b"]
    runs = pa.RunEndEncodedArray.from_arrays([2, 3, 4], ["a", None, "b"])
    null_value = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0]), pa.array(["a", None]))
    assert hash_texts(runs).to_pylist() == hashes("xxh3", words)
    assert hash_texts(runs[1:]).to_pylist() == hashes("xxh3", words[1:])
    assert hash_texts(null_value).to_pylist() == hashes("xxh3", ["a", None, None, "a"])
    assert hash_texts(pa.array(["{}"], pa.string()).cast(pa.string())).to_pylist() == hashes("xxh3", ["{}"])


@settings(max_examples=30, deadline=None)
@given(
    TEXTS, st.integers(0, 20), st.integers(0, 20), st.sampled_from([*STRINGS, pa.dictionary(pa.int32(), pa.string())])
)
def test_slices_and_chunks(words: list[str | None], beg: int, end: int, kind: pa.DataType) -> None:
    whole, expected = pa.array(words, pa.string()).cast(kind), hashes("xxh3", words)
    chunks = pa.chunked_array([whole[beg:end], whole[:0], whole[end:]], kind)
    assert hash_texts(whole[beg:end]).to_pylist() == expected[beg:end]
    assert hash_texts(chunks).to_pylist() == expected[beg:end] + expected[end:]
    fused = hash_texts([whole, chunks, whole[beg:]])
    assert [found.to_pylist() for found in fused] == [expected, expected[beg:end] + expected[end:], expected[beg:]]
    assert all(found.type == pa.int64() for found in fused)
    assert hash_texts([]) == []


def test_many_texts_in_threads() -> None:
    """More than a thread takes at a time; hashes do not depend on which thread took them."""
    words = [f"user_{n % 977}" for n in range(20_000)]
    expected = dict(zip(words, hashes("xxh3", [*words]), strict=True))
    assert hash_texts(pa.array(words)).to_pylist() == [expected[word] for word in words]


def damaged_array(kind: pa.DataType, places: list[int]) -> pa.Array:
    """Of two texts; damaged when it is made already, as a file may be whose offsets Arrow has not read."""
    dtype = np.int64 if kind == pa.large_binary() else np.int32
    held = np.array([0, 2, 4] if kind != pa.string_view() else [1, 97, 0, 0] * 2, dtype)
    made = pa.Array.from_buffers(kind, 2, [None, pa.py_buffer(held), pa.py_buffer(b"abcd")])
    held[:] = places
    return made


@pytest.mark.parametrize(
    ("kind", "places", "which"),
    [
        (pa.string(), [0, 2, 9], 1),
        (pa.string(), [0, 3, 2], 1),
        (pa.large_binary(), [-5, 2, 4], 0),
        (pa.string_view(), [1, 97, 0, 0, 20, 0, 0, 0], 1),
        (pa.string_view(), [13, 0, 7, 0, 1, 97, 0, 0], 0),
        (pa.string_view(), [1, 97, 0, 0, 13, 0, -1, 0], 1),
        (pa.string_view(), [1, 97, 0, 0, -1, 0, 0, 0], 1),
    ],
)
def test_a_damaged_array_is_refused(kind: pa.DataType, places: list[int], which: int) -> None:
    damaged = damaged_array(kind, places)
    with pytest.raises(ValueError, match=f"text {which} of an Arrow array of .* lies outside of its buffers"):
        hash_texts(damaged)


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="must hold text or bytes; got int64"):
        hash_texts(pa.array([1]))
    with pytest.raises(TypeError, match=r"must be an Arrow array, or a list of them; got str\. pa.array\(texts\)"):
        hash_texts(["a"])
    with pytest.raises(ValueError, match="kind must be xxh3, farm, murmur; got 'md5'"):
        hash_texts(pa.array(["a"]), "md5")
