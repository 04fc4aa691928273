"""SASRec over unbounded ids and histories without padding.

Sizes: B sequences, T ids of all of them, D dim, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from recis_core.exchange import Precision
from recis_core.models.jagged_attention import jagged_attention
from recis_core.models.jagged_blocks import JaggedBlocks
from recis_core.models.next_item import ITEM, NextItemModel, check_sizes, item_option, places_of
from recis_core.models.shardings import Shardings, check_names, sharding_of
from recis_core.nn import AdmitHook, CacheConfig, FilterHook, NormalInitializer


class SASRecLayer(nn.Module):
    """x ← x + attention(LayerNorm(x)); x ← x + W·ReLU(W·LayerNorm(x))."""

    def __init__(self, dim: int, heads: int, dropout: float, max_attention: int | None) -> None:
        super().__init__()
        self.heads, self.max_attention = heads, max_attention
        self.before_attention, self.before_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, blocks: JaggedBlocks) -> Tensor:
        q, k, v = self.to_qkv(self.before_attention(x)).unflatten(1, (3, self.heads, -1)).unbind(1)
        dropout = self.dropout.p if self.training else 0.0
        seen = jagged_attention(q, k, v, blocks, max_attention=self.max_attention, dropout=dropout)
        x = x + self.dropout(self.out(seen.flatten(1)))
        out: Tensor = x + self.dropout(self.mlp(self.before_mlp(x)))
        return out


class SASRec(NextItemModel):
    """Self-attention over a user's history, for the item that comes next.

    states = layers(√D · item + position), and a candidate's score is the inner product of its row and the state.

    Args:
      embedding_dim: D, of items and of all layers. layers: how many. heads: of attention; D is a multiple.
      max_length: positions that are learned, and so the longest history.
      max_attention: how many items each one sees, itself among them. None: all before it.
      dropout: of embeddings, of attention's weights and in the layers. init_std: of items and positions.
      seed, backend, precision, admit_hook, filter_hook: as in EmbeddingOption, for the table "item". sharding: likewise, or
        {"item": sharding}. cache: a CacheConfig.

    Raises:
      ValueError: a size is below 1, embedding_dim is no multiple of heads, or `sharding` names another table. In forward: a
        history is longer than max_length.

    Kang and McAuley 2018, arXiv:1808.09781. Here positions count from the first item, and keys and values are normalised
    as queries are.
    """

    def __init__(
        self,
        embedding_dim: int = 64,
        *,
        layers: int = 2,
        heads: int = 1,
        max_length: int = 200,
        max_attention: int | None = None,
        dropout: float = 0.2,
        init_std: float = 0.02,
        seed: int = 0,
        backend: str | None = None,
        precision: str | Precision | None = None,
        sharding: Shardings = "row",
        admit_hook: AdmitHook | str | None = None,
        filter_hook: FilterHook | str | None = None,
        cache: CacheConfig | None = None,
    ) -> None:
        check_sizes(embedding_dim, layers, heads, max_length)
        check_names(sharding, [ITEM])
        option = item_option(
            embedding_dim, initializer=NormalInitializer(0.0, init_std), seed=seed, backend=backend, precision=precision,
            sharding=sharding_of(sharding, ITEM), admit_hook=admit_hook, filter_hook=filter_hook,
        )  # fmt: skip
        super().__init__(option, cache)
        self.position = nn.Embedding(max_length, embedding_dim)
        nn.init.normal_(self.position.weight, std=init_std)
        self.layers = nn.ModuleList(SASRecLayer(embedding_dim, heads, dropout, max_attention) for _ in range(layers))
        self.dropout, self.last = nn.Dropout(dropout), nn.LayerNorm(embedding_dim)

    def encode(self, items: Tensor, offsets: Tensor, blocks: JaggedBlocks, batch: Mapping[str, Any]) -> Tensor:
        """[T, D] -> [T, D]."""
        x = self.dropout(items * items.shape[1] ** 0.5 + self.position(places_of(offsets, len(items))))
        for layer in self.layers:
            x = layer(x, blocks)
        states: Tensor = self.last(x)
        return states

    def check(self, blocks: JaggedBlocks, batch: Mapping[str, Any]) -> None:
        if blocks.longest > self.position.num_embeddings:
            raise ValueError(
                f"a history has {blocks.longest} ids, and this model has positions for max_length = "
                f'{self.position.num_embeddings}. Cut histories: cut_off_2d(history, max_length, drop_sides="left").'
            )
