"""How a table is shaped and pooled, as torchrec.modules.embedding_configs has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import Enum, unique
from math import sqrt
from typing import Any

from torch import Tensor, nn

from recis_core.compat.torchrec.types import DataType

__all__ = ["BaseEmbeddingConfig", "DataType", "EmbeddingBagConfig", "EmbeddingConfig", "PoolingType"]

REFUSED = {
    "num_embeddings_post_pruning": "Evict rows: table_options={table: {'filter_hook': …}}, then evict().",
    "need_pos": "Give positions as weights of the input.",
    "virtual_table_eviction_policy": "Evict rows: table_options={table: {'filter_hook': …}}, then evict().",
    "stash_weights": "A table of more rows than fit has a cache: table_options={table: {'cache': CacheConfig(…)}}.",
}


@unique
class PoolingType(Enum):
    """What a bag's rows become: their sum, their mean, or (EmbeddingCollection) themselves."""

    SUM = "SUM"
    MEAN = "MEAN"
    NONE = "NONE"


@dataclass
class BaseEmbeddingConfig:
    """One table.

    Args:
      num_embeddings: ids are 0 up to this, less one.
      embedding_dim: columns of a row.
      name: of the table, in keys of state_dicts; and of its feature, if feature_names are empty.
      data_type: how rows are stored: FP32 or BF16.
      feature_names: the features that look ids up in the table.
      weight_init_max, weight_init_min: bounds of initial values, uniform; None is ±sqrt(1 / num_embeddings).
      init_fn: fills a tensor [num_embeddings, embedding_dim] in place with the first values of all rows, which are then in
        the table from the start. None: a row gets uniform values when its id first comes.
      use_virtual_table: a dynamic table: any id of 64 bits has a row, made when the id first comes, and num_embeddings
        bounds nothing.
      others: as in TorchRec; those that ask for something tables here do not do are refused by the collection.

    As torchrec.modules.embedding_configs.BaseEmbeddingConfig.
    """

    num_embeddings: int
    embedding_dim: int
    name: str = ""
    data_type: DataType = DataType.FP32
    feature_names: list[str] = field(default_factory=list)
    weight_init_max: float | None = None
    weight_init_min: float | None = None
    num_embeddings_post_pruning: int | None = None
    init_fn: Callable[[Tensor], Tensor | None] | None = None
    need_pos: bool = False
    input_dim: int | None = None
    total_num_buckets: int | None = None
    use_virtual_table: bool = False
    virtual_table_eviction_policy: Any = None
    enable_embedding_update: bool = False
    stash_weights: bool = False

    def get_weight_init_max(self) -> float:
        return sqrt(1 / self.num_embeddings) if self.weight_init_max is None else self.weight_init_max

    def get_weight_init_min(self) -> float:
        return -sqrt(1 / self.num_embeddings) if self.weight_init_min is None else self.weight_init_min

    def num_features(self) -> int:
        return len(self.feature_names)


@dataclass
class EmbeddingBagConfig(BaseEmbeddingConfig):
    """One table whose rows are pooled. As torchrec.modules.embedding_configs.EmbeddingBagConfig."""

    pooling: PoolingType = PoolingType.SUM


@dataclass
class EmbeddingConfig(BaseEmbeddingConfig):
    """One table whose rows come out as they are. As torchrec.modules.embedding_configs.EmbeddingConfig."""


def check_config(config: Any, kind: type[BaseEmbeddingConfig]) -> None:
    """Raises TypeError or ValueError unless a collection can have the table. TorchRec's own configs are taken, too."""
    missing = [each.name for each in fields(kind) if not hasattr(config, each.name)]
    if missing:
        raise TypeError(f"tables must be {kind.__name__}s; got {type(config).__name__}, which has no {missing[0]}.")
    if not config.name or "." in config.name:
        raise ValueError(f"name of a table must be a text without '.', for it is in keys; got {config.name!r}.")
    if hasattr(nn.ModuleDict, config.name):
        raise ValueError(f"name of a table must not be that of a method of nn.ModuleDict; got {config.name!r}.")
    if config.num_embeddings < 1:
        raise ValueError(f"num_embeddings of table {config.name!r} must be at least 1; got {config.num_embeddings}.")
    for name, way_out in REFUSED.items():
        if getattr(config, name):
            raise ValueError(
                f"{name} of table {config.name!r} must be left out; got {getattr(config, name)!r}. {way_out}"
            )
    if config.use_virtual_table and isinstance(config, BaseEmbeddingConfig) and config.init_fn is not None:
        raise ValueError(
            f"init_fn of table {config.name!r} fills a table of known size, and use_virtual_table=True has none. "
            "Use weight_init_min and weight_init_max, or table_options={table: {'initializer': …}}."
        )
