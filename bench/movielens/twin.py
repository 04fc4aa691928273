"""SASRec as plain torch has it: nn.Embedding, histories padded to the longest, torch's own attention.

Sizes: B sequences, L ids of the longest, T ids of all, D dim, H heads, M items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recis_core.models import SASRec


class PaddedLayer(nn.Module):
    """The formula and the names of SASRecLayer."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(self.before_attention(x)).unflatten(2, (3, self.heads, -1))
        q, k, v = (each.transpose(1, 2) for each in qkv.unbind(2))
        dropout = self.dropout.p if self.training else 0.0
        # Padding is at the end, where no item before it looks.
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        x = x + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.before_mlp(x)))


class PaddedSASRec(nn.Module):
    """SASRec of items 0 to M − 1, which begins with the weights of `ours`. Takes ours' batches; candidates are all items."""

    def __init__(self, ours: SASRec, rows: Tensor, heads: int, dropout: float) -> None:
        super().__init__()
        dim = rows.shape[1]
        self.items = nn.Embedding(len(rows) + 1, dim, padding_idx=len(rows))
        self.position = nn.Embedding(ours.position.num_embeddings, dim)
        self.layers = nn.ModuleList(PaddedLayer(dim, heads, dropout) for _ in ours.layers)
        self.dropout, self.last = nn.Dropout(dropout), nn.LayerNorm(dim)
        missing = self.load_state_dict(dict(ours.named_parameters()), strict=False)
        if missing.missing_keys != ["items.weight"] or missing.unexpected_keys:
            raise RuntimeError(f"the twin has other weights than SASRec: {missing}.")
        with torch.no_grad():
            self.items.weight[:-1] = rows

    def forward(self, batch: Mapping[str, Any], *, last: bool = False) -> Tensor:
        """Logits [T, M] of all items' rows, or [B, M] of the last ones."""
        offsets = batch["history"].offsets()[-1]
        lengths = offsets.diff()
        at = torch.arange(int(lengths.max()))
        there = at < lengths[:, None]  # [B, L]
        padded = torch.full(there.shape, self.items.num_embeddings - 1)
        padded[there] = batch["history"].values()
        x = self.dropout(self.items(padded) * self.items.embedding_dim**0.5 + self.position(at))
        for layer in self.layers:
            x = layer(x)
        x = self.last(x)
        states = x[torch.arange(len(x)), lengths - 1] if last else x[there]
        return states @ self.items.weight[:-1].T
