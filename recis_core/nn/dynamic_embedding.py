"""One feature, one table.

Sizes: B bags, F ids a bag, D dim.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recis_core.nn.embedding_engine import EmbeddingEngine
from recis_core.nn.hash_table import HashTable
from recis_core.nn.id_input import as_ids
from recis_core.nn.table_module import TableModule
from recis_core.options.embedding_option import EmbeddingOption
from recis_core.ragged import RaggedTensor


class DynamicEmbedding(TableModule):
    """Pooled embedding of one feature.

    Args:
      emb_opt: the feature's option; the table is named shared_name, or "embedding".
      pg: process group whose ranks share the table; None is the option's.

    Raises:
      ValueError: emb_opt has another pg.

    As recis.nn.DynamicEmbedding.
    """

    def __init__(self, emb_opt: EmbeddingOption, pg: Any = None) -> None:
        super().__init__()
        if pg is not None:
            if emb_opt.pg not in (None, pg):
                raise ValueError("pg and EmbeddingOption(pg=…) are different process groups; give one of the two.")
            emb_opt = replace(emb_opt, pg=pg)
        self.feature = emb_opt.shared_name or "embedding"
        self.engine = EmbeddingEngine({self.feature: emb_opt})

    def forward(self, ids: Tensor | RaggedTensor, input_weights: Tensor | None = None) -> Tensor | RaggedTensor:
        """ids int64 [B, F] or ragged, input_weights of the ids' shape -> [B, D]; see EmbeddingEngine.forward."""
        value = ids if input_weights is None else _weighted(ids, input_weights)
        out: Tensor | RaggedTensor = self.engine({self.feature: value})[self.feature]
        return out

    def sparse_parameters(self) -> dict[str, HashTable]:
        return self.engine.sparse_parameters()


def _weighted(ids: Tensor | RaggedTensor, weights: Tensor) -> RaggedTensor:
    if isinstance(ids, RaggedTensor):
        return RaggedTensor(ids.values(), ids.offsets(), weight=weights.reshape(-1))
    ids = as_ids(ids, "ids")
    if weights.shape != ids.shape:
        raise ValueError(f"input_weights must have the ids' shape {list(ids.shape)}; got {list(weights.shape)}.")
    width = 1 if ids.dim() == 1 else ids.shape[1]
    offsets = torch.arange(ids.shape[0] + 1, device=ids.device) * width
    return RaggedTensor(ids.reshape(-1), offsets, weight=weights.reshape(-1))
