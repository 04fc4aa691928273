"""Bags of several features in one array.

Sizes: F keys, B bags of a key, N values.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from recis_core.compat.torchrec.sparse.bags import Bags
from recis_core.compat.torchrec.sparse.jagged import JaggedTensor
from recis_core.compat.torchrec.sparse.keys import chosen, joined
from recis_core.compat.torchrec.sparse.lengths import edges


class KeyedJaggedTensor(Bags):
    """Values of F features, feature after feature, and bag after bag within each.

               row 0   row 1   row 2
        user   a b     .       c          values  a b c d e f
        item   d       e       f          lengths 2 0 1 1 1 1

    Args:
      keys: names of the features.
      values: [N].
      weights: [N], one for each value, or None.
      lengths: integers [F·B]. offsets: integers [F·B + 1]. One of the two is enough.
      stride: B; None works B out.
      stride_per_key_per_rank: for keys of unequal batches, a list for each key, whose sum is the key's B.
      inverse_indices: (keys, int64 [F, batch]): which bag of each key a row of the batch has, where equal bags are
        given once.
      stride_per_key, length_per_key: B and values of each key, where they are known.

    Raises:
      ValueError: neither lengths nor offsets are given, or they are not as many as keys and strides say.
      TypeError: lengths or offsets are no integers.

    As torchrec.sparse.jagged_tensor.KeyedJaggedTensor.
    """

    def __init__(
        self,
        keys: list[str],
        values: Tensor,
        weights: Tensor | None = None,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        stride: int | None = None,
        stride_per_key_per_rank: Tensor | list[list[int]] | None = None,
        stride_per_key: list[int] | None = None,
        length_per_key: list[int] | None = None,
        *,
        inverse_indices: tuple[list[str], Tensor] | None = None,
    ) -> None:
        super().__init__(values, weights, lengths, offsets)
        self._keys = keys
        self._per_rank = _as_lists(stride_per_key_per_rank)
        self._inverse_indices = inverse_indices
        self._stride_per_key = self._strides(stride, stride_per_key)
        self._length_per_key = length_per_key
        self._dict: dict[str, JaggedTensor] | None = None

    def _strides(self, stride: int | None, given: list[int] | None) -> list[int]:
        bags = max(0, self.offsets().numel() - 1) if self._lengths is None else self._lengths.numel()
        keys = len(self._keys)
        if self._per_rank is not None:
            given = [sum(ranks) for ranks in self._per_rank]
        elif given is None:
            given = [bags // max(1, keys) if stride is None else stride] * keys
        if len(given) != keys or sum(given) != bags:
            raise ValueError(
                f"lengths must be one for each of {keys} keys and its bags, {sum(given)}; got {bags}. "
                "offsets have one number more."
            )
        return given

    @staticmethod
    def from_lengths_sync(
        keys: list[str],
        values: Tensor,
        lengths: Tensor,
        weights: Tensor | None = None,
        stride: int | None = None,
        stride_per_key_per_rank: list[list[int]] | None = None,
        inverse_indices: tuple[list[str], Tensor] | None = None,
    ) -> KeyedJaggedTensor:
        """Of lengths, with the keys' sizes worked out at once."""
        return KeyedJaggedTensor(
            keys, values, weights, lengths, None, stride, stride_per_key_per_rank, inverse_indices=inverse_indices
        ).sync()

    @staticmethod
    def from_offsets_sync(
        keys: list[str],
        values: Tensor,
        offsets: Tensor,
        weights: Tensor | None = None,
        stride: int | None = None,
        stride_per_key_per_rank: list[list[int]] | None = None,
        inverse_indices: tuple[list[str], Tensor] | None = None,
    ) -> KeyedJaggedTensor:
        """Of offsets, with the keys' sizes worked out at once."""
        return KeyedJaggedTensor(
            keys, values, weights, None, offsets, stride, stride_per_key_per_rank, inverse_indices=inverse_indices
        ).sync()

    @staticmethod
    def from_jt_dict(jt_dict: dict[str, JaggedTensor]) -> KeyedJaggedTensor:
        """The features of a dict, in its order. Weighted if all are.

        Raises:
          ValueError: only some have weights.
        """
        parts = list(jt_dict.values())
        weights = [weight for part in parts if (weight := part.weights_or_none()) is not None]
        if weights and len(weights) < len(parts):
            raise ValueError(f"all features must have weights, or none; {len(weights)} of {len(parts)} have.")
        lengths, strides = [part.lengths() for part in parts], [len(part.lengths()) for part in parts]
        return KeyedJaggedTensor(
            list(jt_dict), torch.cat([part.values() for part in parts]), torch.cat(weights) if weights else None,
            torch.cat(lengths), stride_per_key_per_rank=None if len(set(strides)) == 1 else [[s] for s in strides],
        ).sync()  # fmt: skip

    @staticmethod
    def concat(kjt_list: list[KeyedJaggedTensor]) -> KeyedJaggedTensor:
        """The keys of all, one after another.

        Raises:
          ValueError: the list is empty, or weights, batch sizes or inverse indices are of some alone.
        """
        return KeyedJaggedTensor(**joined(kjt_list))

    @staticmethod
    def empty(
        is_weighted: bool = False,
        device: torch.device | None = None,
        values_dtype: torch.dtype | None = None,
        weights_dtype: torch.dtype | None = None,
        lengths_dtype: torch.dtype = torch.int32,
    ) -> KeyedJaggedTensor:
        """No keys."""
        none = JaggedTensor.empty(is_weighted, device, values_dtype, weights_dtype, lengths_dtype)
        return KeyedJaggedTensor([], none.values(), none.weights_or_none(), none.lengths())

    @staticmethod
    def empty_like(kjt: KeyedJaggedTensor) -> KeyedJaggedTensor:
        """No keys, of the same dtypes and device."""
        weights = kjt.weights_or_none()
        return KeyedJaggedTensor.empty(
            weights is not None, kjt.device(), kjt.values().dtype, None if weights is None else weights.dtype,
            kjt.lengths().dtype,
        )  # fmt: skip

    def sync(self) -> KeyedJaggedTensor:
        """Work out the sizes of all keys now; waits for the device."""
        self.length_per_key()
        return self

    def unsync(self) -> KeyedJaggedTensor:
        """Forget the sizes of keys."""
        self._length_per_key = None
        return self

    def keys(self) -> list[str]:
        return self._keys

    def stride(self) -> int:
        """Rows of the batch: B, or what inverse indices expand the keys to; the largest B where keys differ."""
        if self._inverse_indices is not None and self._inverse_indices[1].numel():
            return self._inverse_indices[1].shape[-1]
        return max(self._stride_per_key, default=0)

    def stride_per_key(self) -> list[int]:
        return self._stride_per_key

    def stride_per_key_per_rank(self) -> list[list[int]]:
        return [[stride] for stride in self._stride_per_key] if self._per_rank is None else self._per_rank

    def variable_stride_per_key(self) -> bool:
        """Whether the keys' batch sizes were given one by one."""
        return self._per_rank is not None

    def inverse_indices(self) -> tuple[list[str], Tensor]:
        """Raises ValueError if there are none."""
        if self._inverse_indices is None:
            raise ValueError(
                "this KeyedJaggedTensor has no inverse indices; inverse_indices_or_none() gives None then."
            )
        return self._inverse_indices

    def inverse_indices_or_none(self) -> tuple[list[str], Tensor] | None:
        return self._inverse_indices

    def lengths_offset_per_key(self) -> list[int]:
        """Where each key's lengths begin, and the end of the last."""
        return edges(self._stride_per_key)

    def length_per_key(self) -> list[int]:
        """Values of each key; waits for the device at first."""
        if self._length_per_key is None:
            ends = self.offsets()[torch.tensor(self.lengths_offset_per_key())] if self._keys else torch.zeros(1)
            self._length_per_key = ends.diff().tolist()
        return self._length_per_key

    def length_per_key_or_none(self) -> list[int] | None:
        return self._length_per_key

    def offset_per_key(self) -> list[int]:
        """Where each key's values begin, and the end of the last."""
        return edges(self.length_per_key())

    def index_per_key(self) -> dict[str, int]:
        return {key: i for i, key in enumerate(self._keys)}

    def split(self, segments: list[int]) -> list[KeyedJaggedTensor]:
        """Runs of keys, of these numbers of keys, on the same memory.

        Raises:
          ValueError: there are fewer keys than segments say.
        """
        if sum(segments) > len(self._keys):
            raise ValueError(f"segments must be of at most {len(self._keys)} keys; got {segments}.")
        ends = edges(segments)
        return [KeyedJaggedTensor(**chosen(self, range(a, b))) for a, b in pairwise(ends)]

    def permute(self, indices: list[int], indices_tensor: Tensor | None = None) -> KeyedJaggedTensor:
        """The keys of these indices, in this order; a key may be left out or come again."""
        return KeyedJaggedTensor(**chosen(self, indices))

    def __getitem__(self, key: str) -> JaggedTensor:
        """Raises KeyError if there is no such key."""
        return self._one(self.index_per_key()[key])

    def _one(self, i: int) -> JaggedTensor:
        (begin, end), (first, last) = self.offset_per_key()[i : i + 2], self.lengths_offset_per_key()[i : i + 2]
        weights = None if self._weights is None else self._weights[begin:end]
        return JaggedTensor(self._values[begin:end], weights, self.lengths()[first:last])

    def to_dict(self, compute_offsets: bool = True) -> dict[str, JaggedTensor]:
        """{key: its JaggedTensor}; the same dict at each call."""
        if self._dict is None:
            self._dict = {key: self._one(i) for i, key in enumerate(self._keys)}
        return self._dict

    def flatten_lengths(self) -> KeyedJaggedTensor:
        """With lengths in one dimension."""
        return self._by(lambda tensor: tensor, lengths=self.lengths().view(-1))

    def to(
        self, device: torch.device, non_blocking: bool = False, dtype: torch.dtype | None = None
    ) -> KeyedJaggedTensor:
        """On the device; dtype is that of weights."""
        moved = self._by(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        if dtype is not None and moved._weights is not None:
            moved._weights = moved._weights.to(dtype)
        return moved

    def pin_memory(self) -> KeyedJaggedTensor:
        return self._by(lambda tensor: tensor.pin_memory())

    def _by(self, change: Callable[[Tensor], Tensor], lengths: Tensor | None = None) -> KeyedJaggedTensor:
        def changed(part: Tensor | None) -> Tensor | None:
            return None if part is None else change(part)

        inverse = self._inverse_indices
        return KeyedJaggedTensor(
            self._keys, change(self._values), changed(self._weights),
            changed(self._lengths if lengths is None else lengths), changed(self._offsets),
            stride_per_key_per_rank=self._per_rank, stride_per_key=self._stride_per_key,
            length_per_key=self._length_per_key,
            inverse_indices=None if inverse is None else (inverse[0], change(inverse[1])),
        )  # fmt: skip

    def __repr__(self) -> str:
        bags = {key: [bag.tolist() for bag in jagged.to_dense()] for key, jagged in self.to_dict().items()}
        return f"KeyedJaggedTensor({bags}{'' if self._weights is None else ', weighted'})"


def _as_lists(per_rank: Tensor | list[list[int]] | None) -> list[list[int]] | None:
    return per_rank.tolist() if isinstance(per_rank, Tensor) else per_rank
