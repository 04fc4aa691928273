"""DLRM over unbounded ids, with DCN-v2 crosses as an option.

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
from recis_core.nn import AdmitHook, CacheConfig, EmbeddingEngine, EmbeddingOption, FilterHook


class DotInteraction(nn.Module):
    """All pairwise dot products of F vectors: [B, F, D] -> [B, F(F−1)/2]."""

    pairs: Tensor

    def __init__(self, vectors: int) -> None:
        super().__init__()
        self.register_buffer("pairs", torch.triu_indices(vectors, vectors, offset=1), persistent=False)

    def forward(self, v: Tensor) -> Tensor:
        return torch.bmm(v, v.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]


class LowRankCross(nn.Module):
    """DCN-v2: x ← x0 ⊙ (U·V·x + b) + x, `layers` times. Wang et al. 2021, arXiv:2008.13535."""

    def __init__(self, width: int, layers: int, rank: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, rank, bias=False) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(rank, width) for _ in range(layers))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for down, up in zip(self.down, self.up, strict=True):
            x = x0 * up(down(x)) + x
        return x


class DLRM(nn.Module):
    """Dense bottom tower, embeddings, interaction, top tower.

    Args:
      fields: names of sparse features; each has a table of `embedding_dim` columns.
      dense: X, columns of the input "dense"; 0 leaves the bottom tower out.
      bottom, top: hidden widths. interaction: "dot", or "dcn" for DCN-v2 crosses.
      cross_layers, cross_rank: of "dcn". combiner: of ids in a bag.
      seed, backend, precision, admit_hook, filter_hook: as in EmbeddingOption. sharding: one for all tables, or by field;
        a field without an entry has "row".
      cache: a CacheConfig whose bytes all tables share.

    Raises:
      ValueError: `sharding` names a table that the model does not have, or "dot" has only one vector.

    Naumov et al. 2019, arXiv:1906.00091; "dcn" is MLPerf's DLRM-DCNv2.
    """

    def __init__(
        self,
        fields: Sequence[str],
        embedding_dim: int = 16,
        *,
        dense: int = 0,
        bottom: Sequence[int] = (64,),
        top: Sequence[int] = (128, 64),
        interaction: str = "dot",
        cross_layers: int = 3,
        cross_rank: int = 32,
        combiner: str = "sum",
        seed: int = 0,
        backend: str | None = None,
        precision: str | Precision | None = None,
        sharding: Shardings = "row",
        admit_hook: AdmitHook | str | None = None,
        filter_hook: FilterHook | str | None = None,
        cache: CacheConfig | None = None,
    ) -> None:
        super().__init__()
        if interaction not in ("dot", "dcn"):
            raise ValueError(f"interaction must be 'dot' or 'dcn'; got {interaction!r}.")
        self.fields, self.dense = list(fields), dense
        check_names(sharding, self.fields)
        self.embeddings = EmbeddingEngine(
            {
                f: EmbeddingOption(
                    embedding_dim, combiner=combiner, seed=seed, backend=backend, precision=precision,
                    sharding=sharding_of(sharding, f), admit_hook=admit_hook, filter_hook=filter_hook,
                )
                for f in self.fields
            },
            cache=cache,
        )  # fmt: skip
        self.bottom = mlp([dense, *bottom, embedding_dim], last_relu=True) if dense else None
        vectors = len(self.fields) + bool(dense)
        if interaction == "dot" and vectors < 2:
            raise ValueError(
                "dot products need two vectors at least, one a field and one of all dense inputs; got one field and no dense "
                'input. Use interaction="dcn", or DeepFM.'
            )
        width = vectors * embedding_dim
        if interaction == "dcn":
            self.interaction: nn.Module = nn.Sequential(nn.Flatten(1), LowRankCross(width, cross_layers, cross_rank))
            crossed = width
        else:
            self.interaction = DotInteraction(vectors)
            crossed = vectors * (vectors - 1) // 2 + (embedding_dim if dense else 0)
        self.keeps_bottom = interaction == "dot" and bool(dense)
        self.top = mlp([crossed, *top, 1])

    def sparse_features(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The features that forward passes to `embeddings`; for a Prefetcher."""
        return taken(batch, self.fields)

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """{field: ids, and "dense": float32 [B, X] if the model has dense columns} -> logits float32 [B]."""
        dense = dense_of(batch, self.dense) if self.dense else None
        out = self.embeddings(self.sparse_features(batch))
        vectors = [out[f] for f in self.fields]
        if dense is not None and self.bottom is not None:
            vectors = [self.bottom(dense), *vectors]
        crossed = self.interaction(torch.stack(vectors, dim=1))
        if self.keeps_bottom:
            crossed = torch.cat([vectors[0], crossed], dim=1)
        return self.top(crossed).sum(1)  # one column; no view, for FSDP2 warns of modules that return views
