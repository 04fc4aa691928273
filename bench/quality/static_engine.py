"""The peer of a model's tables: nn.Embedding over the ids of the data, known beforehand.

Sizes: B bags, N ids, D dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recis_core.nn import EmbeddingEngine, EmbeddingOption, HashTable
from recis_core.nn.coalesce import table_name
from recis_core.ragged import RaggedTensor


class StaticEngine(nn.Module):
    """Takes an EmbeddingEngine's place: the same initial rows, in tables whose ids are all there from the beginning.

    An id that the data do not have gives zeros, as an unknown one of an engine in eval does.

    Args:
      engine: the one to replace. batches: of the data to train on, with its features. sparse: of the gradients.
    """

    exchange = None  # each rank looks ids up in whole tables

    def __init__(self, engine: EmbeddingEngine, batches: Iterable[Mapping[str, Any]], *, sparse: bool = True) -> None:
        super().__init__()
        self.options = dict(engine.options)
        self.names = {feature: table_name(feature, option) for feature, option in self.options.items()}
        self.ids = ids = _distinct(batches, self.names)
        by_name = {self.names[feature]: option for feature, option in self.options.items()}
        self.rows = nn.ModuleDict({_key(name): _embedding(name, by_name[name], ids[name], sparse) for name in ids})

    def forward(self, features: Mapping[str, Any]) -> dict[str, Any]:
        return dict(features) | {feature: self._embed(feature, features[feature]) for feature in self.options}

    def _embed(self, feature: str, given: Any) -> Any:
        name, combiner = self.names[feature], self.options[feature].combiner
        ragged = (
            given
            if isinstance(given, RaggedTensor)
            else RaggedTensor.from_dense(given if given.dim() > 1 else given[:, None])
        )
        rows = self.rows[_key(name)](self._numbers(name, ragged.values()))
        if combiner == "none":
            return ragged.with_values(rows)
        if (weight := ragged.weight()) is not None:
            rows = rows * weight[:, None]
        bags = torch.repeat_interleave(torch.arange(len(ragged)), ragged.lengths())
        pooled = rows.new_zeros(len(ragged), rows.shape[1]).index_add(0, bags, rows)
        return pooled if combiner == "sum" else pooled / ragged.lengths().clamp(min=1)[:, None]

    def _numbers(self, name: str, ids: Tensor) -> Tensor:
        """int64 [N]: row numbers; the row after the last for ids that are unknown."""
        known = self.ids[name]
        at = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
        return at.where(known[at] == ids, len(known))


def with_static_tables(model: Any, batches: Iterable[Mapping[str, Any]]) -> Any:
    """The model, its `embeddings` replaced."""
    model.embeddings = StaticEngine(model.embeddings, [model.sparse_features(batch) for batch in batches])
    return model


def _key(name: str) -> str:
    return f"table {name}"  # names of attributes, such as "type", are none of a ModuleDict


def _distinct(batches: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, Tensor]:
    """{table: distinct ids, ascending}"""
    found: dict[str, list[Tensor]] = {name: [] for name in names.values()}
    for batch in batches:
        for feature, name in names.items():
            given = batch[feature]
            found[name].append((given.values() if isinstance(given, RaggedTensor) else given.flatten()).unique())
    return {name: torch.cat(parts).unique() for name, parts in found.items()}


def _embedding(name: str, option: EmbeddingOption, ids: Tensor, sparse: bool) -> nn.Embedding:
    table = HashTable([option.embedding_dim], initializer=option.init, name=name, seed=option.seed, unknown="initial")
    rows, _ = table.lookup(ids)
    return nn.Embedding.from_pretrained(F.pad(rows, (0, 0, 0, 1)), freeze=False, sparse=sparse, padding_idx=len(ids))
