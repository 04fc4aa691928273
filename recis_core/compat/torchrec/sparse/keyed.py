"""Dense outputs of several features side by side.

Sizes: B bags, D the sum of all features' dims.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recis_core.compat.torchrec.sparse.lengths import edges
from recis_core.compat.torchrec.streamable import Pipelineable


class KeyedTensor(Pipelineable):
    """Tensors of several keys, joined along key_dim.

        user [B, 2]   item [B, 3]        values [B, 5], length_per_key [2, 3]

    Args:
      keys: names, in the order of values.
      length_per_key: columns of each key.
      values: [B, D].
      key_dim: the dimension along which keys lie.

    Raises:
      ValueError: there are not as many lengths as keys, or lengths do not sum to the size of values.

    As torchrec.sparse.jagged_tensor.KeyedTensor.
    """

    def __init__(
        self,
        keys: list[str],
        length_per_key: list[int],
        values: Tensor,
        key_dim: int = 1,
        offset_per_key: list[int] | None = None,
        index_per_key: dict[str, int] | None = None,
    ) -> None:
        if len(keys) != len(length_per_key):
            raise ValueError(f"length_per_key must have one length a key, {len(keys)}; got {len(length_per_key)}.")
        if keys and sum(length_per_key) != values.shape[key_dim]:
            raise ValueError(
                f"length_per_key must sum to values' size in dimension {key_dim}, {values.shape[key_dim]}; "
                f"got {sum(length_per_key)}."
            )
        self._keys, self._length_per_key, self._values, self._key_dim = keys, length_per_key, values, key_dim
        self._index = {key: i for i, key in enumerate(keys)} if index_per_key is None else index_per_key
        self._offsets = edges(length_per_key) if offset_per_key is None else offset_per_key

    @staticmethod
    def from_tensor_list(keys: list[str], tensors: list[Tensor], key_dim: int = 1, cat_dim: int = 1) -> KeyedTensor:
        """The tensors, joined along cat_dim."""
        return KeyedTensor(keys, [tensor.shape[key_dim] for tensor in tensors], torch.cat(tensors, cat_dim), key_dim)

    def keys(self) -> list[str]:
        return self._keys

    def values(self) -> Tensor:
        return self._values

    def key_dim(self) -> int:
        return self._key_dim

    def device(self) -> torch.device:
        return self._values.device

    def length_per_key(self) -> list[int]:
        return self._length_per_key

    def offset_per_key(self) -> list[int]:
        """Where each key begins, and the end of the last."""
        return self._offsets

    def __getitem__(self, key: str) -> Tensor:
        """Raises KeyError if there is no such key."""
        i = self._index[key]
        return self._values.narrow(self._key_dim, self._offsets[i], self._length_per_key[i])

    def to_dict(self) -> dict[str, Tensor]:
        """{key: its columns}, as views."""
        parts = self._values.split(self._length_per_key, self._key_dim)
        return {key: parts[i] for key, i in self._index.items()}

    @staticmethod
    def regroup(keyed_tensors: list[KeyedTensor], groups: list[list[str]]) -> list[Tensor]:
        """For each group the columns of its keys, side by side; keys of all the tensors may be mixed.

        Raises:
          KeyError: none of the tensors has the key.
        """
        found: dict[str, Tensor] = {}
        for tensor in keyed_tensors:
            for key, part in tensor.to_dict().items():
                found.setdefault(key, part)
        return [torch.cat([found[key] for key in group], keyed_tensors[0].key_dim()) for group in groups]

    @staticmethod
    def regroup_as_dict(
        keyed_tensors: list[KeyedTensor], groups: list[list[str]], keys: list[str]
    ) -> dict[str, Tensor]:
        """As regroup, by name.

        Raises:
          ValueError: there are not as many keys as groups.
        """
        if len(groups) != len(keys):
            raise ValueError(f"keys must be one a group, {len(groups)}; got {len(keys)}.")
        return dict(zip(keys, KeyedTensor.regroup(keyed_tensors, groups), strict=True))

    def to(self, device: torch.device, non_blocking: bool = False) -> KeyedTensor:
        values = self._values.to(device, non_blocking=non_blocking)
        return KeyedTensor(self._keys, self._length_per_key, values, self._key_dim, self._offsets, self._index)

    def record_stream(self, stream: Any) -> None:
        self._values.record_stream(stream)

    def __repr__(self) -> str:
        return f"KeyedTensor({dict(zip(self._keys, self._length_per_key, strict=True))}, {list(self._values.shape)})"
