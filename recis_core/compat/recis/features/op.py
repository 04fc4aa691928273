"""RecIS's ops as modules. A module's result for one column; fused_op_impl has those of many columns in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.compat.recis.features.data_values import DataValueProcessor
from recis_core.compat.recis.features.truncation import truncated
from recis_core.compat.recis.nn.functional.array_ops import bucketize, bucketize_mod
from recis_core.compat.recis.nn.functional.fused_ops import fused_multi_hash
from recis_core.compat.recis.nn.functional.hash_ops import farmhash, murmurhash
from recis_core.compat.recis.nn.functional.ragged_ops import feature_cross_ragged
from recis_core.compat.recis.ragged.tensor import RaggedTensor
from recis_core.ragged import RaggedTensor as Checked
from recis_core.ragged import largest_prime

__all__ = [
    "Bucketize",
    "DataValueProcessor",
    "FeatureCross",
    "Hash",
    "IDMultiHash",
    "Mod",
    "SelectField",
    "SelectFields",
    "SequenceTruncate",
]


class _OP(nn.Module):
    """Base: `get_hash()` is of the class and its arguments."""

    def _get_config(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} must give its arguments.")

    def get_hash(self) -> int:
        text = f"{type(self).__name__}:{sorted(self._get_config().items())}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


class SelectField(_OP):
    """data[name], or data itself. dtype is not applied; dim sets the last dense size of a RaggedTensor where from_dict=False."""

    def __init__(
        self, name: str, dtype: torch.dtype = torch.long, dim: int | None = None, from_dict: bool = True
    ) -> None:
        super().__init__()
        self._name, self._dtype, self._dim, self._from_dict = name, dtype, dim, from_dict

    def forward(self, data: Any) -> Any:
        """Raises TypeError: data is no dict. KeyError: it has no such field."""
        if self._from_dict:
            if not isinstance(data, dict):
                raise TypeError(f"the input of field {self._name!r} must be a dict; got {type(data).__name__}.")
            return data[self._name]
        if not isinstance(data, Checked) or not self._dim:
            return data
        sized = RaggedTensor(data.values(), data.offsets(), data.weight(), data.dense_shape)
        sized.set_dim_by_rank(self._dim, -1)
        return sized

    def _get_config(self) -> dict[str, Any]:
        return {"name": self._name, "dtype": str(self._dtype), "dim": self._dim, "from_dict": self._from_dict}


class SelectFields(_OP):
    """Several fields, as a list."""

    def __init__(self, input_list: Sequence[SelectField]) -> None:
        super().__init__()
        self.input_list = list(input_list)

    def forward(self, data: Any) -> list[Any]:
        return [field(data) for field in self.input_list]

    def _get_config(self) -> dict[str, Any]:
        return {"input_hashes": [field.get_hash() for field in self.input_list]}


class Mod(_OP):
    """ids int64, read as unsigned, modulo mod_value."""

    def __init__(self, mod_value: int) -> None:
        super().__init__()
        self.mod_value = mod_value

    def forward(self, x: Any) -> Any:
        data = DataValueProcessor(x)
        return data.get_output_value(bucketize_mod(data.get_input_value(), self.mod_value))

    def _get_config(self) -> dict[str, Any]:
        return {"mod": self.mod_value}


class Bucketize(_OP):
    """The number of boundaries that are at most the value; a list is taken as float32."""

    def __init__(self, boundary: list[float] | Tensor) -> None:
        super().__init__()
        self.boundary = torch.tensor(boundary, dtype=torch.float) if isinstance(boundary, list) else boundary

    def forward(self, x: Any) -> Any:
        data = DataValueProcessor(x)
        return data.get_output_value(bucketize(data.get_input_value(), self.boundary))

    def _get_config(self) -> dict[str, Any]:
        return {"boundary": self.boundary.tolist()}


class FeatureCross(_OP):
    """[x, y] → ids of pairs of each row's distinct ids, weighted; rows are those of the innermost level."""

    def forward(self, data: Sequence[Any]) -> RaggedTensor:
        """Raises TypeError: data is not two RaggedTensors."""
        if len(data) != 2 or not all(isinstance(column, Checked) for column in data):
            raise TypeError(f"FeatureCross takes two RaggedTensors; got {[type(column).__name__ for column in data]}.")
        x, y = data
        pairs = feature_cross_ragged(x.values(), x.offsets()[-1], y.values(), y.offsets()[-1], x.weight(), y.weight())
        return RaggedTensor(pairs[0], pairs[1], pairs[2], dense_shape=x.dense_shape)

    def _get_config(self) -> dict[str, Any]:
        return {}


class SequenceTruncate(_OP):
    """Rows of at most seq_len values; n_dims=3: exactly seq_len inner rows, filled with empty ones at the right.

    Args:
      check_length: first require that no row is longer.
      truncate: False gives the input; RecIS 1.0 gives None.
      truncate_side: the side that is dropped.
      dtype: of the values, by which columns are fused.

    Weights are cut with their values; RecIS 1.0 leaves them as they were. With n_dims=2 the result has the innermost level
    alone.
    """

    def __init__(
        self,
        seq_len: int = 64,
        check_length: bool = True,
        truncate: bool = True,
        truncate_side: str = "left",
        n_dims: int = 2,
        dtype: torch.dtype = torch.long,
    ) -> None:
        super().__init__()
        if n_dims not in (2, 3) or truncate_side not in ("left", "right"):
            raise ValueError(f"n_dims must be 2 or 3, truncate_side left or right; got {n_dims}, {truncate_side!r}.")
        self.seq_len, self.check_length, self.truncate = seq_len, check_length, truncate
        self.truncate_side, self.n_dims, self.dtype = truncate_side, n_dims, dtype

    def forward(self, x: Any) -> Any:
        """Raises AssertionError, as RecIS: check_length, and a row is longer than seq_len."""
        if self.check_length and x.shape[1] > self.seq_len:
            raise AssertionError(
                f"rows must have at most seq_len = {self.seq_len} values; the longest has {x.shape[1]}. check_length=False "
                "lets them be cut."
            )
        return truncated([self], [x])[0] if self.truncate else x

    def _get_config(self) -> dict[str, Any]:
        names = ("seq_len", "check_length", "truncate", "truncate_side", "n_dims")
        return {**{name: getattr(self, name) for name in names}, "dtype": str(self.dtype)}


class IDMultiHash(_OP):
    """{"multi_hash_j": (id · m_j mod p_j) mod num_buckets[j]}, m of 1, 3, 5, 7, p_j the largest prime up to 29, 47, 67, 83 times
    num_buckets[j]."""

    multi_muls = (1, 3, 5, 7)
    multi_mods = (29, 47, 67, 83)

    def __init__(self, num_buckets: Sequence[int]) -> None:
        super().__init__()
        if not 1 <= len(num_buckets) <= len(self.multi_muls):
            raise ValueError(f"num_buckets must be one to four numbers; got {list(num_buckets)}.")
        self.bucket_lens = len(num_buckets)
        primes = [largest_prime(bound * n) for bound, n in zip(self.multi_mods, num_buckets, strict=False)]
        self.muls = torch.tensor(self.multi_muls[: self.bucket_lens])
        self.multi_primes, self.num_buckets = torch.tensor(primes), torch.tensor(list(num_buckets))

    @property
    def rule(self) -> tuple[Tensor, Tensor, Tensor]:
        """Multipliers, primes and numbers of buckets."""
        return self.muls, self.multi_primes, self.num_buckets

    def forward(self, x: Any) -> dict[str, Any]:
        data = DataValueProcessor(x)
        found = fused_multi_hash([data.get_input_value()], *([numbers] for numbers in self.rule))
        return {f"multi_hash_{j}": data.get_output_value(hashes) for j, hashes in enumerate(found)}

    def _get_config(self) -> dict[str, Any]:
        return {"num_buckets": self.num_buckets.tolist()}


class Hash(_OP):
    """A RaggedTensor of int8 bytes → int64 of each innermost row, whose level goes. hash_type: "farm" or "murmur"."""

    def __init__(self, hash_type: str) -> None:
        super().__init__()
        if hash_type not in ("farm", "murmur"):
            raise ValueError(f"hash_type must be farm or murmur; got {hash_type!r}.")
        self.hash_type = hash_type

    def forward(self, x: Any) -> RaggedTensor:
        hashed = (farmhash if self.hash_type == "farm" else murmurhash)([x.values()], [x.offsets()[-1].int()])
        return RaggedTensor(hashed[0], x.offsets()[:-1], x.weight(), x.dense_shape[:-1])

    def _get_config(self) -> dict[str, Any]:
        return {"hash_type": self.hash_type}
