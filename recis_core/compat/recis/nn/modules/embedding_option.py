"""How RecIS embeds one feature."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch

from recis_core.compat.recis.nn.hashtable_hook import AdmitHook, FilterHook
from recis_core.compat.recis.nn.initializers import ConstantInitializer, Initializer
from recis_core.compat.recis.nn.modules.table_dtype import check_dtype


@dataclass
class EmbeddingOption:
    """RecIS's fields and defaults: one table "embedding" for all features, and rows that begin at zero.

    Features of one shared_name may differ in trainable, combiner, use_weight and admit_hook.

    Raises:
      ValueError: an unknown combiner, a dtype that tables cannot have, or fp16_enabled, which is for int8 tables.
      RuntimeError: combiner "tile" without combiner_kwargs={"tile_len": k}.

    As recis.nn.EmbeddingOption.
    """

    embedding_dim: int = 16
    block_size: int = 10240
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")
    trainable: bool = True
    pg: Any = None
    max_partition_num: int = 65536
    shared_name: str = "embedding"
    children: list[str] = field(default_factory=list)
    coalesced: bool | None = False
    initializer: Initializer | None = None
    use_weight: bool | None = True
    combiner: str | None = "sum"
    combiner_kwargs: dict[str, Any] | None = None
    grad_reduce_by: str | None = "worker"
    filter_hook: FilterHook | None = None
    admit_hook: AdmitHook | None = None
    fp16_enabled: bool = False

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        self.children = self.children or [self.shared_name]
        self.initializer = ConstantInitializer() if self.initializer is None else self.initializer
        if self.fp16_enabled:
            raise ValueError(
                f"fp16_enabled is for int8 tables alone, which are not here; this one is of {self.dtype}. Leave it out, and "
                'train the dense side in half precision by torch.autocast, or Trainer(mixed_precision="bf16").'
            )
        if self.combiner not in ("sum", "mean", "tile"):
            raise ValueError(f"combiner must be sum, mean or tile; got {self.combiner!r}.")
        if self.combiner == "tile" and "tile_len" not in (self.combiner_kwargs or {}):
            raise RuntimeError('combiner "tile" needs combiner_kwargs={"tile_len": k}.')

    @property
    def tile_len(self) -> int | None:
        return int(self.combiner_kwargs["tile_len"]) if self.combiner == "tile" and self.combiner_kwargs else None

    def coalesced_info(self) -> str:
        """Tables of equal text share a storage."""
        return json.dumps(
            {
                "dim": self.embedding_dim,
                "dtype": str(self.dtype),
                "device": torch.device(self.device).type,
                "initializer": str(self.initializer),
                "grad_reduce_by": self.grad_reduce_by,
                "filter_hook": str(self.filter_hook),
            }
        )

    def runtime_info(self) -> str:
        """Features of equal text are looked up in one call."""
        return json.dumps(
            {
                "combiner": self.combiner,
                "use_weight": self.use_weight,
                "trainable": self.trainable,
                "admit_hook": str(self.admit_hook),
                "fp16_enabled": self.fp16_enabled,
            }
        )
