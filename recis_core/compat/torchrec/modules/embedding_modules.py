"""EmbeddingBagCollection and EmbeddingCollection, as torchrec.modules.embedding_modules has them.

Sizes: B bags, N ids, D dim.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from recis_core.compat.torchrec.modules.collection import Options, TableCollection
from recis_core.compat.torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig
from recis_core.compat.torchrec.sparse.jagged_tensor import JaggedTensor, KeyedTensor
from recis_core.ragged import RaggedTensor

COMBINERS = {"SUM": "sum", "MEAN": "mean"}


class EmbeddingBagCollection(TableCollection):
    """Tables whose rows are pooled for each bag: KeyedJaggedTensor in, KeyedTensor out.

        user  [7 9] [ ]      t1, mean      user  (row 7 + row 9) / 2 | zeros
        item  [3]   [4]      t2, sum       item  row 3               | row 4         values [B, D of t1 + D of t2]

    Args:
      tables: EmbeddingBagConfigs, ours or TorchRec's. Their order, and that of their features, is that of the output.
      is_weighted: whether weights of the input scale rows. MEAN then is Σ w·row / ids of the bag, as FBGEMM has it.
      device: of tables and ids. None, or "meta": the backend's.
      table_options: ours. Further arguments of EmbeddingOption, by table name or "*" for all tables: cache, backend,
        precision, storage, filter_hook, …

    Raises:
      TypeError, ValueError: a config or option is wrong.

    As torchrec.modules.embedding_modules.EmbeddingBagCollection.
    """

    def __init__(
        self,
        tables: list[EmbeddingBagConfig],
        is_weighted: bool = False,
        device: str | torch.device | None = None,
        *,
        table_options: Options | None = None,
    ) -> None:
        super().__init__(tables, EmbeddingBagConfig, is_weighted, device, table_options)
        self.embedding_bags = self._house()

    def _combiner(self, config: Any) -> str:
        pooling = getattr(config.pooling, "value", config.pooling)
        if pooling not in COMBINERS:
            raise ValueError(
                f"pooling of table {config.name!r} must be SUM or MEAN; got {pooling}. EmbeddingCollection does not pool."
            )
        return "sum" if self._weighted_mean(config) else COMBINERS[pooling]

    def forward(self, features: Any) -> Any:
        """The pooled rows of each feature.

        Args:
          features: KeyedJaggedTensor, ours or TorchRec's; further keys are ignored.

        Returns:
          KeyedTensor [B, sum of dims], float32, of the input's framework; an empty bag gives zeros. Keys are features,
          `feature@table` where several tables have the feature.

        Raises:
          KeyError, IndexError, ValueError: see TableCollection.inputs.
        """
        pooled = self._expanded(self._embed(self, features), features)
        dims = [each.config.embedding_dim for each in self._lookups]
        names = [each.name for each in self._lookups]
        return _class_beside(features, KeyedTensor)(keys=names, length_per_key=dims, values=torch.cat(pooled, 1))

    def _expanded(self, pooled: list[Tensor], features: Any) -> list[Tensor]:
        """Bags that were given once, for each row of the batch that has them."""
        inverse = features.inverse_indices_or_none()
        if inverse is None:
            return pooled
        row = {key: i for i, key in enumerate(inverse[0])}
        return [part[inverse[1][row[each.feature]]] for part, each in zip(pooled, self._lookups, strict=True)]

    def _weighted_mean(self, config: Any) -> bool:
        return self._weighted and getattr(config.pooling, "value", config.pooling) == "MEAN"

    def _input(self, feature: RaggedTensor, config: Any) -> RaggedTensor:
        weight = feature.weight()
        if weight is None or not self._weighted_mean(config):
            return feature
        lengths = feature.lengths()
        scaled = weight / lengths.repeat_interleave(lengths)
        return RaggedTensor.trusted(feature.values(), feature.offsets(), scaled)

    def is_weighted(self) -> bool:
        return self._weighted

    def embedding_bag_configs(self) -> list[Any]:
        return self._configs


class EmbeddingCollection(TableCollection):
    """Tables whose rows come out one for each id: KeyedJaggedTensor in, {feature: JaggedTensor} out.

    Args:
      tables: EmbeddingConfigs of one embedding_dim, ours or TorchRec's.
      device, table_options: as in EmbeddingBagCollection.
      need_indices: give ids as weights of the outputs.

    Raises:
      TypeError, ValueError: a config or option is wrong.

    As torchrec.modules.embedding_modules.EmbeddingCollection.
    """

    def __init__(
        self,
        tables: list[EmbeddingConfig],
        device: str | torch.device | None = None,
        need_indices: bool = False,
        *,
        table_options: Options | None = None,
    ) -> None:
        dims = {config.embedding_dim for config in tables}
        if len(dims) > 1:
            raise ValueError(f"tables must have one embedding_dim; got {sorted(dims)}. Make a collection for each dim.")
        super().__init__(tables, EmbeddingConfig, False, device, table_options)
        self._need_indices, self._dim = need_indices, dims.pop() if dims else -1
        self.embeddings = self._house()

    def _combiner(self, config: Any) -> str:
        return "none"

    def forward(self, features: Any) -> dict[str, Any]:
        """The rows of each feature's ids.

        Returns:
          {feature: JaggedTensor of values [N, D] float32, with the feature's lengths}, of the input's framework;
          `feature@table` where several tables have the feature.

        Raises:
          KeyError, IndexError: see TableCollection.inputs.
        """
        rows, made = self._embed(self, features), _class_beside(features, JaggedTensor)
        found = {}
        for each, row in zip(self._lookups, rows, strict=True):
            ids = features[each.feature]
            weights = ids.values() if self._need_indices else None
            found[each.name] = made(values=row.values(), weights=weights, lengths=ids.lengths())
        return found

    def need_indices(self) -> bool:
        return self._need_indices

    def embedding_dim(self) -> int:
        return self._dim

    def embedding_configs(self) -> list[Any]:
        return self._configs

    def embedding_names_by_table(self) -> list[list[str]]:
        return [[each.name for each in self._lookups if each.config is config] for config in self._configs]


def _class_beside(features: Any, ours: type) -> type:
    """The class of that name in the module that the input's class is of, TorchRec's for TorchRec's; else ours."""
    home = sys.modules.get(type(features).__module__)
    found: type = getattr(home, ours.__name__, ours)
    return found
