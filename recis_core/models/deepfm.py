"""DeepFM over unbounded ids.

Sizes: B rows of a batch, F sparse fields, D dim, X dense columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.exchange import Precision
from recis_core.models.mlp import mlp
from recis_core.nn import ConstantInitializer, EmbeddingEngine, EmbeddingOption, NormalInitializer


class DeepFM(nn.Module):
    """Factorization machine and MLP over shared embeddings.

    logit = bias + Σ_f w_f + Σ_{f<g} <v_f, v_g> + MLP([v_1 .. v_F, dense])

    Args:
      fields: names of sparse features; each gets a row of `embedding_dim` and a weight of its own.
      embedding_dim: D. dense: X, columns of the input "dense". hidden: widths of the MLP. dropout: in the MLP.
      combiner: of ids in a bag. init_std: of embeddings; FM needs it small.
      seed, backend, precision: as in EmbeddingOption.

    Guo et al. 2017, arXiv:1703.04247.
    """

    def __init__(
        self,
        fields: Sequence[str],
        embedding_dim: int = 16,
        *,
        dense: int = 0,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
        combiner: str = "sum",
        init_std: float = 0.01,
        seed: int = 0,
        backend: str | None = None,
        precision: str | Precision | None = None,
    ) -> None:
        super().__init__()
        self.fields = list(fields)
        alike: dict[str, Any] = {"combiner": combiner, "seed": seed, "backend": backend, "precision": precision}
        vectors = EmbeddingOption(embedding_dim, initializer=NormalInitializer(0.0, init_std), **alike)
        weights = EmbeddingOption(1, initializer=ConstantInitializer(0.0), **alike)
        self.embeddings = EmbeddingEngine(
            dict.fromkeys(self.fields, vectors) | {f"{f}:linear": weights for f in self.fields}
        )
        self.dense_linear = nn.Linear(dense, 1, bias=False) if dense else None
        self.tower = mlp([len(self.fields) * embedding_dim + dense, *hidden, 1], dropout=dropout)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """{field: ids, and "dense": float32 [B, X] if the model has dense columns} -> logits float32 [B]."""
        ids = {f: batch[f] for f in self.fields} | {f"{f}:linear": batch[f] for f in self.fields}
        out = self.embeddings(ids)
        v = torch.stack([out[f] for f in self.fields], dim=1)  # [B, F, D]
        linear = torch.stack([out[f"{f}:linear"] for f in self.fields], dim=1).sum(dim=(1, 2))
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        deep = v.flatten(1)
        if self.dense_linear is not None:
            linear = linear + self.dense_linear(batch["dense"]).squeeze(1)
            deep = torch.cat([deep, batch["dense"]], dim=1)
        return self.bias + linear + pairs + self.tower(deep).squeeze(1)
