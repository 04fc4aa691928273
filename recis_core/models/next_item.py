"""What models of the next item share: the table of items, and scores of candidates.

Sizes: B sequences, T ids of all of them, D dim, M or C candidates.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from recis_core.models.inputs import taken
from recis_core.models.jagged_blocks import JaggedBlocks
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.options.cache_config import CacheConfig
from recis_core.ragged import RaggedTensor

ITEM = "item"  # the table's name


class NextItemModel(nn.Module):
    """One table of items, in which histories and candidates are looked up, and an encoder between them.

    Subclasses write `encode`. option: the table's; `combiner` and `shared_name` are set here.
    """

    def __init__(self, option: EmbeddingOption, cache: CacheConfig | None) -> None:
        super().__init__()
        self.embeddings = EmbeddingEngine({"history": option, "candidates": option}, cache=cache)

    @abstractmethod
    def encode(self, items: Tensor, offsets: Tensor, blocks: JaggedBlocks, batch: Mapping[str, Any]) -> Tensor:
        """Vectors of all histories' items, [T, D] -> states [T, D], each of an item and those before it."""

    def check(self, blocks: JaggedBlocks, batch: Mapping[str, Any]) -> None:
        """Raises what forward raises for histories of these blocks, and for inputs beside them, before it looks ids up."""

    def sparse_features(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The features that forward passes to `embeddings`; for a Prefetcher."""
        return taken(batch, ("history", "candidates"))

    def forward(
        self, batch: Mapping[str, Any], *, last: bool = False, vectors: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Scores of candidates to come next, as inner products of states and the candidates' vectors.

        Args:
          batch: "history": RaggedTensor of B sequences of int64 ids [T], oldest first. "candidates": ids [M] for all rows
            alike, or [T, C], those of each row of the history. HSTU may want "timestamps", too.
          last: score only what follows the last item of each history; candidates are then [M] or [B, C]. An empty history
            scores 0.
          vectors: give what the scores are products of, for losses that sample.

        Returns:
          float32 logits [T, M] or [T, C], with `last` [B, M] or [B, C]. Row t is worked out from the items of its sequence
          up to t. With `vectors` states [T, D] or [B, D], and the candidates' rows [M, D] or [T, C, D].

        Raises:
          KeyError: an input is missing. TypeError, ValueError: an input has another kind or size than said above.
        """
        given = self.sparse_features(batch)
        _check(given, last)
        offsets = given["history"].offsets()[-1]
        blocks = JaggedBlocks.of(offsets)
        self.check(blocks, batch)
        rows = self.embeddings(given)
        history, candidates = (cast(RaggedTensor, rows[f]).values() for f in ("history", "candidates"))
        candidates = candidates.view(*given["candidates"].shape, candidates.shape[1])
        states = self.encode(history, offsets, blocks, batch)
        if last:
            states = _last_of_each(states, offsets)
        if vectors:
            return states, candidates
        return states @ candidates.T if candidates.dim() == 2 else (candidates @ states[:, :, None]).squeeze(2)


def item_option(embedding_dim: int, **given: Any) -> EmbeddingOption:
    """The option of the table of items, one row an id."""
    return EmbeddingOption(embedding_dim, combiner="none", shared_name=ITEM, **given)


def check_sizes(embedding_dim: int, layers: int, heads: int, max_length: int) -> None:
    """Raises ValueError for sizes of which there is no model."""
    for name, size in {"layers": layers, "heads": heads, "max_length": max_length}.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {size}.")
    if embedding_dim % heads:
        raise ValueError(f"embedding_dim must be a multiple of heads = {heads}; got {embedding_dim}.")


def places_of(offsets: Tensor, rows: int) -> Tensor:
    """int64 [T]: each row's place in its sequence, from 0 on."""
    starts = offsets[:-1].repeat_interleave(offsets.diff(), output_size=rows)
    return torch.arange(rows, device=offsets.device) - starts


def _check(batch: Mapping[str, Any], last: bool) -> None:
    history, candidates = batch["history"], batch["candidates"]
    if not isinstance(history, RaggedTensor) or len(history.offsets()) != 1:
        kind = type(history).__name__
        levels = f" of {len(history.offsets())} levels" if isinstance(history, RaggedTensor) else ""
        raise TypeError(f'"history" must be a RaggedTensor of ids with one level of offsets; got {kind}{levels}.')
    if not isinstance(candidates, Tensor):
        raise TypeError(f'"candidates" must be a tensor of ids; got {type(candidates).__name__}.')
    rows = len(history.lengths()) if last else len(history.values())
    if candidates.dim() not in (1, 2) or (candidates.dim() == 2 and len(candidates) != rows):
        of = "sequence" if last else "id of the history"
        raise ValueError(
            f'"candidates" must be [M], or [{rows}, C] with a row for each {of}; got {list(candidates.shape)}.'
        )


def _last_of_each(states: Tensor, offsets: Tensor) -> Tensor:
    """[T, D] -> [B, D]; zeros for an empty sequence."""
    ends, empty = offsets[1:] - 1, offsets.diff() == 0
    with_zeros = torch.cat([states, states.new_zeros(1, states.shape[1])])
    return with_zeros[ends.masked_fill(empty, len(states))]
