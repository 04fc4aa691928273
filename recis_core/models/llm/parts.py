"""Tokens of a batch, put together of parts: fixed text, text of each row, and placeholders of features.

Sizes: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core.models.llm.sequence import Vocabulary, lengths_of
from recis_core.nn.id_input import as_ids
from recis_core.ragged import RaggedTensor


def join_parts(batch: Mapping[str, Any], parts: Sequence[Any], vocabulary: Vocabulary) -> RaggedTensor:
    """One row of tokens after another, of parts; see DecoderWithTables.sequence."""
    like = _lengths_of_first(batch, parts)
    pieces = [_piece(batch, part, like, vocabulary) for part in parts]
    lengths = torch.stack([piece.lengths() for piece in pieces])  # [parts, B]
    ends = lengths.sum(0).cumsum(0)
    offsets = torch.cat([ends.new_zeros(1), ends])
    starts = offsets[:-1] + lengths.cumsum(0) - lengths  # of each piece, in the joined values
    joined = torch.empty(int(offsets[-1]), dtype=torch.int64, device=offsets.device)
    for piece, start in zip(pieces, starts, strict=True):
        shift = (start - piece.offsets()[0][:-1]).repeat_interleave(piece.lengths())
        joined[torch.arange(len(shift), device=shift.device) + shift] = piece.values()
    return RaggedTensor(joined, offsets)


def _lengths_of_first(batch: Mapping[str, Any], parts: Sequence[Any]) -> Tensor:
    """int64 [B], on the device of the batch: of the first part that is a key."""
    named = [part for part in parts if isinstance(part, str)]
    if not named:
        raise ValueError("parts must name a key of the batch at least once, which says how many rows there are.")
    for name in named:
        if name not in batch:
            raise KeyError(f"parts name {name!r}, which the batch lacks; it has {list(batch)}.")
    return lengths_of(batch[named[0]], named[0])


def _piece(batch: Mapping[str, Any], part: Any, like: Tensor, vocabulary: Vocabulary) -> RaggedTensor:
    """A part as ragged tokens of every row. like: [B], on the device of the batch."""
    if not isinstance(part, str):
        fixed = torch.as_tensor(part, dtype=torch.int64, device=like.device).flatten()
        return _ragged(fixed.repeat(len(like)), torch.full_like(like, len(fixed)))
    lengths = lengths_of(batch[part], part)
    if len(lengths) != len(like):
        raise ValueError(f"parts must have as many rows as the first, {len(like)}; {part!r} has {len(lengths)}.")
    if part in vocabulary.placeholders:
        return _ragged(lengths.new_full((int(lengths.sum()),), vocabulary.placeholders[part]), lengths)
    value = batch[part]
    tokens = as_ids(value.values() if isinstance(value, RaggedTensor) else value.flatten(), f"tokens of {part!r}")
    return _ragged(tokens, lengths)


def _ragged(values: Tensor, lengths: Tensor) -> RaggedTensor:
    return RaggedTensor(values, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
