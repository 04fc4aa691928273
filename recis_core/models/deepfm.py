"""DeepFM over unbounded ids.

Sizes: B rows of a batch, F sparse fields, D dim, X dense columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.exchange import Precision
from recis_core.models.inputs import dense_of, taken
from recis_core.models.mlp import mlp
from recis_core.models.shardings import Shardings, check_names, sharding_of
from recis_core.nn import (
    AdmitHook,
    CacheConfig,
    ConstantInitializer,
    EmbeddingEngine,
    EmbeddingOption,
    FilterHook,
    NormalInitializer,
)
from recis_core.options.initializers import Initializer


class DeepFM(nn.Module):
    """Factorization machine and MLP over shared embeddings.

    logit = bias + Σ_f w_f + Σ_{f<g} <v_f, v_g> + MLP([v_1 .. v_F, dense])

    Args:
      fields: names of sparse features; each has a table of `embedding_dim` columns, and one of a single weight.
      embedding_dim: D. dense: X, columns of the input "dense". hidden: widths of the MLP. dropout: in the MLP.
      combiner: of ids in a bag. init_std: of embeddings; FM needs it small.
      seed, backend, precision, admit_hook, filter_hook: as in EmbeddingOption. sharding: one for all tables, or by table
        name. A table `<field>:linear` without an entry has the sharding of `<field>`; other tables without an entry have
        "row".
      cache: a CacheConfig whose bytes all tables share.

    Raises:
      ValueError: `sharding` names a table that the model does not have.

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
        sharding: Shardings = "row",
        admit_hook: AdmitHook | str | None = None,
        filter_hook: FilterHook | str | None = None,
        cache: CacheConfig | None = None,
    ) -> None:
        super().__init__()
        self.fields, self.dense = list(fields), dense

        def option(dim: int, initializer: Initializer, *names: str) -> EmbeddingOption:
            return EmbeddingOption(
                dim, combiner=combiner, seed=seed, backend=backend, initializer=initializer, precision=precision,
                sharding=sharding_of(sharding, *names), admit_hook=admit_hook, filter_hook=filter_hook,
            )  # fmt: skip

        check_names(sharding, [name for f in self.fields for name in (f, f"{f}:linear")])
        vectors, weights = NormalInitializer(0.0, init_std), ConstantInitializer(0.0)
        self.embeddings = EmbeddingEngine(
            {f: option(embedding_dim, vectors, f) for f in self.fields}
            | {f"{f}:linear": option(1, weights, f"{f}:linear", f) for f in self.fields},
            cache=cache,
        )
        self.dense_linear = nn.Linear(dense, 1, bias=False) if dense else None
        self.tower = mlp([len(self.fields) * embedding_dim + dense, *hidden, 1], dropout=dropout)
        self.bias = nn.Parameter(torch.zeros(1))

    def sparse_features(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The features that forward passes to `embeddings`; for a Prefetcher."""
        given = taken(batch, self.fields)
        return given | {f"{f}:linear": ids for f, ids in given.items()}

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """{field: ids, and "dense": float32 [B, X] if the model has dense columns} -> logits float32 [B]."""
        dense = dense_of(batch, self.dense) if self.dense else None
        out = self.embeddings(self.sparse_features(batch))
        v = torch.stack([out[f] for f in self.fields], dim=1)  # [B, F, D]
        linear = torch.stack([out[f"{f}:linear"] for f in self.fields], dim=1).sum(dim=(1, 2))
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        deep = v.flatten(1)
        if dense is not None and self.dense_linear is not None:
            linear = linear + self.dense_linear(dense).squeeze(1)
            deep = torch.cat([deep, dense], dim=1)
        return self.bias + linear + pairs + self.tower(deep).squeeze(1)
