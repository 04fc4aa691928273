"""A small batch, and collections for it."""

from __future__ import annotations

from typing import Any

import torch

from recis_core.compat.torchrec import (
    EmbeddingBagCollection,
    EmbeddingBagConfig,
    EmbeddingCollection,
    EmbeddingConfig,
    KeyedJaggedTensor,
    PoolingType,
)

# user   [7 9] [ ]  [7]
# item   [3]   [4]  [3 3 0]
LENGTHS, IDS, WEIGHTS = [2, 0, 1, 1, 1, 3], [7, 9, 7, 3, 4, 3, 3, 0], [1.0, 2.0, 0.5, 3.0, 1.0, 1.0, 2.0, 4.0]


def batch(weighted: bool = False) -> KeyedJaggedTensor:
    weights = torch.tensor(WEIGHTS) if weighted else None
    return KeyedJaggedTensor.from_lengths_sync(["user", "item"], torch.tensor(IDS), torch.tensor(LENGTHS), weights)


def bags(pooling: PoolingType = PoolingType.SUM, weighted: bool = False, **more: Any) -> EmbeddingBagCollection:
    """Tables t_user (user) and t_both (item and user), of 10 rows."""
    tables = [
        EmbeddingBagConfig(10, 2, "t_user", feature_names=["user"], pooling=pooling),
        EmbeddingBagConfig(10, 3, "t_both", feature_names=["item", "user"], pooling=pooling),
    ]
    return EmbeddingBagCollection(tables, is_weighted=weighted, **more)


def rows(**more: Any) -> EmbeddingCollection:
    return EmbeddingCollection([EmbeddingConfig(10, 2, "t_user", feature_names=["user"])], **more)


def weights_of(collection: EmbeddingBagCollection) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of t_user [10, 2] and t_both [10, 3]."""
    state = collection.state_dict()
    return state["embedding_bags.t_user.weight"], state["embedding_bags.t_both.weight"]
