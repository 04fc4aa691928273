"""Sequences that mix tokens of text with rows of tables, and where each of them stands.

    tokens   [ 5  9 | user | 7 | item item item ]      a row of a batch; a feature's name stands for its placeholder
    user       77
    item       812  4  -93                             ids, which fill the placeholders in order

Sizes: B rows of a batch, T positions of the longest, V tokens of the vocabulary, F features, N ids of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core.ragged import RaggedTensor

PADDING = -1  # behind the end of a shorter row, in tokens that are a Tensor
TOKENS = "tokens"


@dataclass(frozen=True)
class Vocabulary:
    """size: V. longest: most positions of a sequence, or None. features: names; the placeholder of the k-th is token V + k."""

    size: int
    longest: int | None
    features: tuple[str, ...]

    @property
    def placeholders(self) -> dict[str, int]:
        return {name: self.size + k for k, name in enumerate(self.features)}


@dataclass(frozen=True)
class Layout:
    """tokens: int64 [B, T], PADDING behind each end. places: {feature: int64 [N], positions in tokens.flatten()}."""

    tokens: Tensor
    places: dict[str, Tensor]

    @property
    def begins(self) -> Tensor:
        """bool [B·T]: the first position of each row, which nothing predicts."""
        first = torch.zeros_like(self.tokens, dtype=torch.bool)
        first[:, :1] = True
        return first.flatten()


def tokens_of(batch: Mapping[str, Any]) -> Tensor:
    """The batch's tokens, int64 [B, T], with PADDING.

    Raises:
      KeyError: there are none. TypeError, ValueError: they are no integers, or not [B, T].
    """
    if TOKENS not in batch:
        raise KeyError(f"a batch must hold {TOKENS!r}; it has {list(batch)}. DecoderWithTables.sequence makes them.")
    given = batch[TOKENS]
    tokens = given.to_dense(PADDING) if isinstance(given, RaggedTensor) else given
    if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.dtype == torch.bool:
        kind = tokens.dtype if isinstance(tokens, Tensor) else type(given).__name__
        raise TypeError(f"{TOKENS} must be integers in a RaggedTensor or a Tensor [B, T]; got {kind}.")
    if tokens.dim() != 2:
        raise ValueError(f"{TOKENS} must be [B, T], or rows of a RaggedTensor of one level; got {list(tokens.shape)}.")
    return tokens.long()


def read_layout(batch: Mapping[str, Any], vocabulary: Vocabulary) -> Layout:
    """Read and check a batch. Waits for the device of its tokens, if that is a GPU.

    Raises: see DecoderWithTables.forward.
    """
    tokens = tokens_of(batch)
    _check_tokens(tokens, vocabulary)
    missing = [name for name in vocabulary.features if name not in batch]
    if missing:
        raise KeyError(f"features {missing} have a table and are missing; the batch has {list(batch)}.")
    places = {}
    for name, placeholder in vocabulary.placeholders.items():
        there = tokens == placeholder
        _check_counts(name, placeholder, there.sum(1), lengths_of(batch[name], name))
        places[name] = there.flatten().nonzero()[:, 0]
    return Layout(tokens, places)


def _check_tokens(tokens: Tensor, vocabulary: Vocabulary) -> None:
    if vocabulary.longest is not None and tokens.shape[1] > vocabulary.longest:
        raise ValueError(
            f"a sequence may have {vocabulary.longest} positions, the decoder's max_position_embeddings; got "
            f"{tokens.shape[1]}. Shorten it."
        )
    if not tokens.numel():
        return
    least, most, limit = int(tokens.min()), int(tokens.max()), vocabulary.size + len(vocabulary.features)
    if least < PADDING or most >= limit:
        raise ValueError(
            f"{TOKENS} must be in [0, {vocabulary.size}), the vocabulary, or placeholders of features, "
            f"{vocabulary.placeholders}; got {least if least < PADDING else most}. Ids of tables stand under their "
            "feature's name, not among the tokens."
        )
    padding = tokens == PADDING
    if bool((padding[:, :-1] & ~padding[:, 1:]).any()):
        raise ValueError(f"{TOKENS} must have {PADDING}, padding, behind the end of a row alone; got some before it.")


def lengths_of(value: Any, name: str) -> Tensor:
    """int64 [B]: how many ids each row of a feature has.

    Raises:
      TypeError, ValueError: it is no such feature.
    """
    if isinstance(value, RaggedTensor):
        if len(value.offsets()) != 1:
            raise ValueError(f"feature {name!r} must have one ragged level; got {len(value.offsets())}.")
        return value.lengths()
    if not isinstance(value, Tensor):
        raise TypeError(
            f"feature {name!r} must be a Tensor [B] or [B, n] or a RaggedTensor; got {type(value).__name__}."
        )
    if value.dim() not in (1, 2):
        raise ValueError(f"feature {name!r} as a Tensor must be [B] or [B, n]; got {list(value.shape)}.")
    each = 1 if value.dim() == 1 else value.shape[1]
    return torch.full((len(value),), each, dtype=torch.int64, device=value.device)


def _check_counts(name: str, placeholder: int, places: Tensor, ids: Tensor) -> None:
    """Raises ValueError unless each row has as many placeholders as ids."""
    if len(places) != len(ids):
        raise ValueError(f"feature {name!r} must have as many rows as the tokens = {len(places)}; got {len(ids)}.")
    apart = (places != ids.to(places.device)).nonzero()[:, 0]
    if len(apart):
        row = int(apart[0])
        raise ValueError(
            f"each row must have as many placeholders of {name!r}, token {placeholder}, as ids; row {row} has "
            f"{int(places[row])} placeholders and {int(ids[row])} ids."
        )
