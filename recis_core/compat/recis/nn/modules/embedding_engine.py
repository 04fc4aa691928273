"""All sparse features of a model in one module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recis_core.compat.recis.absent import WithoutStages, refuse_name
from recis_core.compat.recis.nn.modules.coalesced_group import HashTableCoalescedGroup, groups_of
from recis_core.compat.recis.nn.modules.embedding_option import EmbeddingOption
from recis_core.compat.recis.nn.modules.hashtable import HashTable
from recis_core.compat.recis.nn.modules.lookups import Lookups
from recis_core.ragged import RaggedTensor

__all__ = ["EmbeddingEngine", "HashTableCoalescedGroup"]

BLOCK_SIZE = 10240  # of every engine's tables, whatever their options say


class GroupTable(nn.Module):
    """Holds a group's table where RecIS has a DynamicEmbedding, so that keys of state dicts agree."""

    def __init__(self, table: HashTable) -> None:
        super().__init__()
        self._hashtable = table


class EmbeddingEngine(WithoutStages, nn.Module):
    """Embeds a dict of features; tables of equal options share storage.

    Args:
      emb_options: {feature: EmbeddingOption}.

    Raises:
      RuntimeError: two options for one shared_name need different storages.
      ValueError: the process has had a table of one of the names.

    As recis.nn.EmbeddingEngine: ids are cut to 52 bits, features that a call does not have are left out, and RaggedTensors
    without an option become dense.
    """

    def __init__(self, emb_options: dict[str, EmbeddingOption]) -> None:
        super().__init__()
        self._emb_opts = emb_options
        self._fea_group = groups_of(emb_options)
        self._lookups = Lookups(self._fea_group, coalesced=True, block_sizes=dict.fromkeys(self._fea_group, BLOCK_SIZE))
        self._fea_to_ht = self._lookups.storage_of
        self._fea_to_group = {f: self._fea_group[name] for f, name in self._fea_to_ht.items()}
        self._ht = nn.ModuleDict({name: GroupTable(table) for name, table in self._lookups.tables.items()})

    def forward(self, input_features: dict[str, Any]) -> dict[str, Any]:
        """Embed the features that have an option and are there; give the others, RaggedTensors as dense tensors.

        Args:
          input_features: {name: ids int64 [B, F] | RaggedTensor | anything else}.

        Returns:
          {name: [B, D]}; under "tile" [B, tile_len, D] of a RaggedTensor, [B, tile_len · D] of a Tensor; [..., D] for more
          levels.

        Raises:
          TypeError, ValueError: ids or offsets do not fit, or a sparse tensor has no option.
        """
        mine = {name: value for name, value in input_features.items() if name in self._emb_opts}
        embedded: dict[str, Any] = self._lookups(mine, training=self.training)
        return embedded | self.format_direct_out({n: v for n, v in input_features.items() if n not in mine})

    def format_direct_out(self, ori_outs: dict[str, Any]) -> dict[str, Any]:
        """Inputs without an option as they come out. Raises TypeError: one is a sparse tensor."""
        sparse = [name for name, value in ori_outs.items() if isinstance(value, Tensor) and value.is_sparse]
        if sparse:
            raise TypeError(f"the engine gives no sparse tensors; {', '.join(sparse)} are. Take them out before it.")
        return {name: v.to_dense() if isinstance(v, RaggedTensor) else v for name, v in ori_outs.items()}


def __getattr__(name: str) -> Any:
    return refuse_name(__name__, name)
