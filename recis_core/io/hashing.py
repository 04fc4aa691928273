"""Text to 64-bit ids.

Sizes: N values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
import xxhash
from torch import Tensor

from recis_core.hashing import hash_texts
from recis_core.io.kinds import TESTS, plain_type
from recis_core.ragged import RaggedTensor


def text_id(text: bytes) -> int:
    """XXH3 of 64 bits, seed 0, of the bytes (of a str: its UTF-8), as a signed integer."""
    unsigned = xxhash.xxh3_64_intdigest(text)
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def hashed(texts: pa.Array) -> pa.Array:
    """int64 hashes [N] of text [N], as text_id gives them; null stays null.

    All are hashed: to find the distinct ones first takes longer, even where a thousand make a million.
    """
    return hash_texts(texts, "xxh3")


def hash_strings(texts: Iterable[Any] | RaggedTensor) -> Tensor | RaggedTensor:
    """Ids of strings, equal to those that readers and `recis train` give to a column of text.

        hash_strings(["a", "b"])        # int64 [2]: XXH3 (64 bits, seed 0) of the UTF-8, as a signed integer

    Args:
      texts: str or bytes in a list, a numpy array, a pandas or polars Series, or an Arrow array; or a RaggedTensor of
        bytes, as `varlen_feature` gives for a column of text.

    Returns:
      int64 [N]; for a RaggedTensor a RaggedTensor of ids, with one level of offsets less.

    Raises:
      TypeError: a value is no text. ValueError: a value is missing (None, NaN).
    """
    if isinstance(texts, RaggedTensor):
        return _hash_letters(texts)
    if isinstance(texts, pa.Array | pa.ChunkedArray) and TESTS["text"](plain_type(texts.type)):
        return _tensor_of(hashed(texts))
    listed = list(_listed(texts))
    if all(type(text) is str for text in listed):
        return _tensor_of(hashed(pa.array(listed, pa.large_string())))
    encoded = [_bytes_of(n, text) for n, text in enumerate(listed)]
    return _tensor_of(hashed(pa.array(encoded, pa.large_binary())))


def _tensor_of(ids: pa.Array) -> Tensor:
    """Ids in memory of their own."""
    if ids.null_count:
        _bytes_of(pc.index(pc.is_null(ids), True).as_py(), None)
    return torch.tensor(ids.to_numpy(), dtype=torch.int64)


def _listed(texts: Any) -> Any:
    if isinstance(texts, str | bytes):
        raise TypeError(f"hash_strings takes many strings; got one {type(texts).__name__}. Give a list: [{texts!r}].")
    for name in ("to_pylist", "tolist"):
        if callable(getattr(texts, name, None)):
            return getattr(texts, name)()
    return texts


def _bytes_of(n: int, text: Any) -> bytes:
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return text
    if text is None or text != text:
        raise ValueError(f"texts[{n}] is missing ({text!r}); leave it out, or give it a text of its own.")
    raise TypeError(f"texts must hold str or bytes; got {type(text).__name__} at texts[{n}].")


def _hash_letters(texts: RaggedTensor) -> RaggedTensor:
    *levels, bounds = texts.offsets()
    if texts.dtype != torch.uint8 or not levels:
        raise TypeError(
            "a RaggedTensor of text holds bytes, uint8, with two levels of offsets or more, as varlen_feature gives them; "
            f"got {texts!r}."
        )
    buffers = [None, *(pa.py_buffer(part.contiguous().cpu().numpy()) for part in (bounds, texts.values()))]
    ids = hashed(pa.Array.from_buffers(pa.large_binary(), len(bounds) - 1, buffers))
    return RaggedTensor(_tensor_of(ids).to(texts.device), levels)
