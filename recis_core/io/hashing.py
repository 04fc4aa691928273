"""Text to 64-bit ids.

Sizes: N values.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import xxhash
from torch import Tensor

from recis_core.ragged import RaggedTensor


def text_id(text: bytes) -> int:
    """XXH3 of 64 bits, seed 0, of the bytes (of a str: its UTF-8), as a signed integer."""
    unsigned = xxhash.xxh3_64_intdigest(text)
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def hashed(texts: pa.Array) -> pa.Array:
    """int64 hashes [N] of text [N]; null stays null. Each distinct value is hashed once."""
    encoded = texts.cast(pa.large_binary()).dictionary_encode()
    ids = np.fromiter(map(text_id, encoded.dictionary.to_pylist()), np.int64, len(encoded.dictionary))
    return pa.array(ids).take(encoded.indices)


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
    ids = [_id_of(n, text) for n, text in enumerate(_listed(texts))]
    return torch.tensor(ids, dtype=torch.int64)


def _listed(texts: Any) -> Any:
    if isinstance(texts, str | bytes):
        raise TypeError(f"hash_strings takes many strings; got one {type(texts).__name__}. Give a list: [{texts!r}].")
    for name in ("to_pylist", "tolist"):
        if callable(getattr(texts, name, None)):
            return getattr(texts, name)()
    return texts


def _id_of(n: int, text: Any) -> int:
    if isinstance(text, str):
        return text_id(text.encode())
    if isinstance(text, bytes):
        return text_id(text)
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
    letters, edges = texts.values().cpu().numpy().tobytes(), bounds.tolist()
    ids = [text_id(letters[begin:end]) for begin, end in pairwise(edges)]
    return RaggedTensor(torch.tensor(ids, dtype=torch.int64, device=texts.device), levels)
