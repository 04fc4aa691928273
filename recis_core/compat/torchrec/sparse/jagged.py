"""Bags of unequal length in one array.

Sizes: B bags, N values, L the longest bag.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recis_core.compat.torchrec.sparse.bags import Bags


class JaggedTensor(Bags):
    """Values of B bags, one bag after another; lengths or offsets say where each begins.

        values   a b | | c d e        lengths 2 0 3, offsets 0 2 2 5

    Args:
      values: [N] or [N, D].
      weights: [N], one for each value, or None.
      lengths: integers [B]. offsets: integers [B + 1] from 0. One of the two is enough; the other is worked out when asked for.

    Raises:
      ValueError: neither lengths nor offsets are given. TypeError: they are no integers.

    As torchrec.sparse.jagged_tensor.JaggedTensor.
    """

    def __init__(
        self,
        values: Tensor,
        weights: Tensor | None = None,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> None:
        super().__init__(values, weights, lengths, offsets)

    @staticmethod
    def empty(
        is_weighted: bool = False,
        device: torch.device | None = None,
        values_dtype: torch.dtype | None = None,
        weights_dtype: torch.dtype | None = None,
        lengths_dtype: torch.dtype = torch.int32,
    ) -> JaggedTensor:
        """No bags."""
        values = torch.empty(0, dtype=values_dtype, device=device)
        weights = torch.empty(0, dtype=weights_dtype, device=device) if is_weighted else None
        return JaggedTensor(values, weights, torch.empty(0, dtype=lengths_dtype, device=device))

    @staticmethod
    def from_dense(values: list[Tensor], weights: list[Tensor] | None = None) -> JaggedTensor:
        """One bag for each tensor of the list."""
        joined = torch.cat(values)
        lengths = torch.tensor([len(bag) for bag in values], dtype=torch.int32, device=joined.device)
        return JaggedTensor(joined, None if weights is None else torch.cat(weights), lengths)

    @staticmethod
    def from_dense_lengths(values: Tensor, lengths: Tensor, weights: Tensor | None = None) -> JaggedTensor:
        """The first lengths[b] values of each row of a rectangle [B, L]."""
        inside = _inside(lengths, values.shape[1])
        return JaggedTensor(values[inside], None if weights is None else weights[inside], lengths)

    def to_dense(self) -> list[Tensor]:
        """The bags, as views; waits for the device."""
        return list(self._values.split(self.lengths().tolist()))

    def to_dense_weights(self) -> list[Tensor] | None:
        """The bags' weights; None without weights."""
        return None if self._weights is None else list(self._weights.split(self.lengths().tolist()))

    def to_padded_dense(self, desired_length: int | None = None, padding_value: float = 0.0) -> Tensor:
        """[B, L] or [B, L, D]: each bag in a row, padded at its end. Keeps gradients.

        desired_length: L; longer bags lose their ends. None is the longest bag's, for which it waits for the device.
        """
        return self._padded(self._values, desired_length, padding_value)

    def to_padded_dense_weights(self, desired_length: int | None = None, padding_value: float = 0.0) -> Tensor | None:
        """The weights as to_padded_dense has the values; None without weights."""
        return None if self._weights is None else self._padded(self._weights, desired_length, padding_value)

    def _padded(self, values: Tensor, length: int | None, padding: float) -> Tensor:
        lengths = self.lengths()
        if length is None:
            length = int(lengths.max()) if len(lengths) else 0
        bag, place = _inside(lengths, length).nonzero(as_tuple=True)
        padded = values.new_full((len(lengths), length, *values.shape[1:]), padding)
        return padded.index_put((bag, place), values[self.offsets()[:-1][bag] + place])

    def to(self, device: torch.device, non_blocking: bool = False) -> JaggedTensor:
        return self._by(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> JaggedTensor:
        return self._by(lambda tensor: tensor.pin_memory())

    def _by(self, change: Callable[[Tensor], Tensor]) -> JaggedTensor:
        rest = (self._weights, self._lengths, self._offsets)
        return JaggedTensor(change(self._values), *[None if part is None else change(part) for part in rest])

    def __repr__(self) -> str:
        return f"JaggedTensor({[bag.tolist() for bag in self.to_dense()]})"


def _inside(lengths: Tensor, width: int) -> Tensor:
    """bool [B, width]: which places of a padded rectangle hold values."""
    return torch.arange(width, device=lengths.device) < lengths.unsqueeze(1)
