"""DLRM over an EmbeddingBagCollection, with parameters under TorchRec's names. Naumov et al. 2019, arXiv:1906.00091.

Sizes: B rows, F sparse features, D dim.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recis_core.compat.torchrec.modules.embedding_modules import EmbeddingBagCollection
from recis_core.compat.torchrec.modules.mlp import MLP

__all__ = ["DLRM", "DLRMTrain", "DenseArch", "InteractionArch", "OverArch", "SparseArch"]


class SparseArch(nn.Module):
    """Pooled rows of all features, [B, F, D]. As torchrec.models.dlrm.SparseArch.

    Raises:
      ValueError: the collection has no table, or tables of several dims, or a feature that several tables have.
    """

    def __init__(self, embedding_bag_collection: EmbeddingBagCollection) -> None:
        super().__init__()
        configs = embedding_bag_collection.embedding_bag_configs()
        dims = {config.embedding_dim for config in configs}
        names = [name for config in configs for name in config.feature_names]
        if len(dims) != 1 or len(set(names)) < len(names):
            raise ValueError(
                f"tables must have one embedding_dim, and features of their own; got dims {sorted(dims)}, features {names}."
            )
        self.embedding_bag_collection, self._names = embedding_bag_collection, names
        self.D, self.F = dims.pop(), len(names)

    @property
    def sparse_feature_names(self) -> list[str]:
        return self._names

    def forward(self, features: Any) -> Tensor:
        pooled: Tensor = self.embedding_bag_collection(features).values()
        return pooled.reshape(-1, self.F, self.D)


class DenseArch(nn.Module):
    """Layers from the dense features to one vector, [B, in_features] to [B, D]. As torchrec.models.dlrm.DenseArch."""

    def __init__(self, in_features: int, layer_sizes: list[int], device: torch.device | None = None) -> None:
        super().__init__()
        self.model = MLP(in_features, layer_sizes, activation="relu", device=device)

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.model(features)
        return found


class InteractionArch(nn.Module):
    """Products of each two vectors, beside the dense one: [B, D] and [B, F, D] to [B, D + F + F·(F − 1) / 2].

    As torchrec.models.dlrm.InteractionArch.
    """

    triu_indices: Tensor

    def __init__(self, num_sparse_features: int) -> None:
        super().__init__()
        self.F = num_sparse_features
        pairs = torch.triu_indices(self.F + 1, self.F + 1, offset=1)
        self.register_buffer("triu_indices", pairs, persistent=False)

    def forward(self, dense_features: Tensor, sparse_features: Tensor) -> Tensor:
        vectors = torch.cat([dense_features.unsqueeze(1), sparse_features], 1)
        first, second = self.triu_indices
        return torch.cat([dense_features, torch.bmm(vectors, vectors.transpose(1, 2))[:, first, second]], 1)


class OverArch(nn.Module):
    """Layers over the products; the last is linear. As torchrec.models.dlrm.OverArch.

    Raises:
      ValueError: there is one layer alone.
    """

    def __init__(self, in_features: int, layer_sizes: list[int], device: torch.device | None = None) -> None:
        super().__init__()
        if len(layer_sizes) < 2:
            raise ValueError(f"over_arch_layer_sizes must be two or more; got {layer_sizes}.")
        last = nn.Linear(layer_sizes[-2], layer_sizes[-1], device=device)
        self.model = nn.Sequential(MLP(in_features, layer_sizes[:-1], activation="relu", device=device), last)

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.model(features)
        return found


class DLRM(nn.Module):
    """Logits [B, over_arch_layer_sizes[-1]] of dense features [B, dense_in_features] and a KeyedJaggedTensor.

    Raises:
      ValueError: the last dense layer has not the tables' dim; or see SparseArch and OverArch.

    As torchrec.models.dlrm.DLRM.
    """

    def __init__(
        self,
        embedding_bag_collection: EmbeddingBagCollection,
        dense_in_features: int,
        dense_arch_layer_sizes: list[int],
        over_arch_layer_sizes: list[int],
        dense_device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.sparse_arch = SparseArch(embedding_bag_collection)
        features, dim = self.sparse_arch.F, self.sparse_arch.D
        if dense_arch_layer_sizes[-1] != dim:
            raise ValueError(
                f"dense_arch_layer_sizes must end with the tables' embedding_dim, {dim}; got {dense_arch_layer_sizes}."
            )
        self.dense_arch = DenseArch(dense_in_features, dense_arch_layer_sizes, dense_device)
        self.inter_arch = InteractionArch(features)
        products = features * (features + 1) // 2
        self.over_arch = OverArch(dim + products, over_arch_layer_sizes, dense_device)

    def forward(self, dense_features: Tensor, sparse_features: Any) -> Tensor:
        dense = self.dense_arch(dense_features)
        found: Tensor = self.over_arch(self.inter_arch(dense, self.sparse_arch(sparse_features)))
        return found


class DLRMTrain(nn.Module):
    """The loss of a Batch, as pipelines call a model: loss, (loss, logits, labels). As torchrec.models.dlrm.DLRMTrain."""

    def __init__(self, dlrm_module: DLRM) -> None:
        super().__init__()
        self.model, self.loss_fn = dlrm_module, nn.BCEWithLogitsLoss()

    def forward(self, batch: Any) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        logits = self.model(batch.dense_features, batch.sparse_features).squeeze(-1)
        loss = self.loss_fn(logits, batch.labels.float())
        return loss, (loss.detach(), logits.detach(), batch.labels.detach())
