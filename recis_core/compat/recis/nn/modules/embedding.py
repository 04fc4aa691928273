"""One feature, one table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from recis_core.compat.recis.absent import WithoutStages, refuse_name
from recis_core.compat.recis.nn.modules.coalesced_group import HashTableCoalescedGroup
from recis_core.compat.recis.nn.modules.embedding_option import EmbeddingOption
from recis_core.compat.recis.nn.modules.lookups import Lookups
from recis_core.ragged import RaggedTensor

__all__ = ["DynamicEmbedding", "EmbeddingOption"]


class DynamicEmbedding(WithoutStages, nn.Module):
    """Pooled embedding of one feature, from a table that the ranks of the process group share.

    Args:
      emb_opt: the feature's option.
      pg: process group; None is the option's, or the default group, or this process alone without one.

    As recis.nn.DynamicEmbedding, but "tile" works, and weights of a RaggedTensor count unless input_weights is given.
    """

    def __init__(self, emb_opt: EmbeddingOption, pg: Any = None) -> None:
        super().__init__()
        self._emb_opt = replace(emb_opt, pg=pg) if pg is not None else emb_opt
        group = HashTableCoalescedGroup(emb_opt.shared_name)
        group.add_option("ids", self._emb_opt)
        sizes = {emb_opt.shared_name: emb_opt.block_size}
        self._lookups = Lookups({emb_opt.shared_name: group}, coalesced=False, block_sizes=sizes)
        self._hashtable = self._lookups.tables[emb_opt.shared_name]

    def forward(self, input_ids: Tensor | RaggedTensor, input_weights: Tensor | None = None) -> Tensor:
        """ids int64 [B, F] or ragged, input_weights of the ids' shape -> [B, D]; under "tile" [B, tile_len · D].

        Raises:
          TypeError, ValueError: ids or weights do not fit.
        """
        value = input_ids if input_weights is None else _weighted(input_ids, input_weights)
        out = self._lookups({"ids": value}, training=self.training)["ids"]
        return out.flatten(1) if self._emb_opt.combiner == "tile" else out


def _weighted(ids: Tensor | RaggedTensor, weights: Tensor) -> RaggedTensor:
    values = ids.values() if isinstance(ids, RaggedTensor) else ids
    if weights.numel() != values.numel():
        raise ValueError(f"input_weights must be one an id, {tuple(values.shape)}; got {tuple(weights.shape)}.")
    if isinstance(ids, RaggedTensor):
        return RaggedTensor(ids.values(), ids.offsets(), weight=weights.reshape(-1).float())
    rows = RaggedTensor.from_dense(ids if ids.dim() == 2 else ids[:, None])
    return RaggedTensor(rows.values(), rows.offsets(), weight=weights.reshape(-1).float())


def __getattr__(name: str) -> Any:
    return refuse_name(__name__, name)
