"""HSTU over unbounded ids and histories without padding.

Sizes: B sequences, T ids of all of them, D dim, H heads, P distances, K spans of time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recis_core.exchange import Precision
from recis_core.models.inputs import taken
from recis_core.models.jagged_attention import jagged_attention
from recis_core.models.jagged_blocks import JaggedBlocks
from recis_core.models.next_item import ITEM, NextItemModel, check_sizes, item_option
from recis_core.models.relative_bias import RelativeBias
from recis_core.models.shardings import Shardings, check_names, sharding_of
from recis_core.nn import AdmitHook, CacheConfig, FilterHook, NormalInitializer
from recis_core.ragged import RaggedTensor

SPANS = 64  # half-octaves: 2³¹ seconds are the last


class HSTULayer(nn.Module):
    """u, v, q, k = silu(W·LayerNorm(x));  x ← x + W·(LayerNorm(attention(q, k, v)) ⊙ u).

    attention(q, k, v)_i = Σ_{j ≤ i} silu(<q_i, k_j>/√d + position[i − j] + time[span of t_i − t_j]) · v_j / max_length

    dim: D. heads: H, of D/H columns each. max_length: P, biases of distances; those beyond share the last.
    max_attention, dropout: of attention, and dropout also before the last W. times: whether there is a bias of time.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        *,
        max_length: int = 200,
        max_attention: int | None = None,
        dropout: float = 0.0,
        times: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.max_length, self.max_attention = heads, max_length, max_attention
        self.before, self.after = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_uvqk, self.out = nn.Linear(dim, 4 * dim), nn.Linear(dim, dim)
        self.by_distance = nn.Parameter(torch.zeros(max_length))
        self.by_time = nn.Parameter(torch.zeros(SPANS)) if times else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, blocks: JaggedBlocks, timestamps: Tensor | None = None) -> Tensor:
        """x [T, D], timestamps int64 [T] or None -> [T, D]."""
        u, v, q, k = F.silu(self.to_uvqk(self.before(x))).chunk(4, dim=1)
        q, k, v = (each.unflatten(1, (self.heads, -1)) for each in (q, k, v))
        seen = jagged_attention(
            q, k, v, blocks, kind="silu", bias=RelativeBias(self.by_distance, self.by_time, timestamps),
            divisor=self.max_length, max_attention=self.max_attention, dropout=self.dropout.p if self.training else 0.0,
        )  # fmt: skip
        out: Tensor = x + self.out(self.dropout(self.after(seen.flatten(1)) * u))
        return out


class HSTU(NextItemModel):
    """Hierarchical sequential transduction units over a user's history, for the item that comes next.

    states = layers(√D · item), and a candidate's score is the inner product of its row and the state. Attention weighs by
    silu instead of a softmax, so that how often something happened is kept, and knows distances and times between items.

    Args:
      embedding_dim: D, of items and of all layers. layers: how many. heads: of attention; D is a multiple.
      max_length: biases of distances that are learned; histories may be longer.
      max_attention: how many items each one sees, itself among them. None: all before it.
      times: whether the batch has "timestamps", a RaggedTensor of int64 seconds with the offsets of "history".
      dropout: of embeddings, of attention's weights and in the layers. init_std: of items.
      seed, backend, precision, admit_hook, filter_hook: as in EmbeddingOption, for the table "item". sharding: likewise, or
        {"item": sharding}. cache: a CacheConfig.

    Raises:
      ValueError: a size is below 1, embedding_dim is no multiple of heads, or `sharding` names another table. In forward:
        timestamps do not fit the history. TypeError: they are no RaggedTensor of int64. KeyError: they are missing.

    Zhai et al. 2024, arXiv:2402.17152. Here sums of weights are divided by max_length, so that no sequence's output depends
    on the others of a batch; a row's time is its own, and that of the item to come is not known.
    """

    def __init__(
        self,
        embedding_dim: int = 64,
        *,
        layers: int = 2,
        heads: int = 1,
        max_length: int = 200,
        max_attention: int | None = None,
        times: bool = False,
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
        self.times = times
        self.layers = nn.ModuleList(
            HSTULayer(embedding_dim, heads, max_length=max_length, max_attention=max_attention, dropout=dropout,
                      times=times)
            for _ in range(layers)
        )  # fmt: skip
        self.dropout, self.last = nn.Dropout(dropout), nn.LayerNorm(embedding_dim)

    def check(self, blocks: JaggedBlocks, batch: Mapping[str, Any]) -> None:
        if self.times:
            _check_timestamps(taken(batch, ["timestamps"])["timestamps"], blocks.rows)

    def encode(self, items: Tensor, offsets: Tensor, blocks: JaggedBlocks, batch: Mapping[str, Any]) -> Tensor:
        """[T, D] -> [T, D]."""
        timestamps = batch["timestamps"].values() if self.times else None
        x = self.dropout(items * items.shape[1] ** 0.5)
        for layer in self.layers:
            x = layer(x, blocks, timestamps)
        states: Tensor = self.last(x)
        return states


def _check_timestamps(given: Any, rows: int) -> None:
    """Raises TypeError or ValueError unless they are int64 [T] of a RaggedTensor."""
    wanted = f'"timestamps" must be a RaggedTensor of int64 [{rows}], one for each id; got'
    if not isinstance(given, RaggedTensor) or given.dtype != torch.int64:
        raise TypeError(f"{wanted} {given.dtype if isinstance(given, RaggedTensor) else type(given).__name__}.")
    if given.values().shape != (rows,):
        raise ValueError(f"{wanted} {list(given.values().shape)}.")
