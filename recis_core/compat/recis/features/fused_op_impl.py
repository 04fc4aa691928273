"""Ops of one class over many columns, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recis_core.compat.recis.common.singleton import SingletonMeta
from recis_core.compat.recis.features.data_values import DataValueProcessor
from recis_core.compat.recis.features.op import Bucketize, Hash, IDMultiHash, Mod, SequenceTruncate
from recis_core.compat.recis.features.truncation import truncated
from recis_core.compat.recis.nn.functional.fused_ops import fused_bucketize_gpu, fused_multi_hash, fused_uint64_mod_gpu
from recis_core.compat.recis.nn.functional.hash_ops import farmhash, murmurhash
from recis_core.compat.recis.ragged.tensor import RaggedTensor


class FusedOpFactory(metaclass=SingletonMeta):
    """Fused classes by the class of their ops."""

    def __init__(self) -> None:
        self._fused: dict[str, type[_FusedOP]] = {}

    @staticmethod
    def register(op_class: type, fused_op_class: type[_FusedOP]) -> None:
        """Raises ValueError: the op's class is registered."""
        known = FusedOpFactory()._fused
        if op_class.__name__ in known:
            raise ValueError(f"{op_class.__name__} has a fused class already.")
        known[op_class.__name__] = fused_op_class

    @staticmethod
    def contains(op: object) -> bool:
        return type(op).__name__ in FusedOpFactory()._fused

    @staticmethod
    def get_fused_op(op: object) -> type[_FusedOP]:
        return FusedOpFactory()._fused[type(op).__name__]


class _FusedOP:
    """`process(inputs)` gives the result of each op for its input."""

    def __init__(self, ops: Sequence[Any] | None = None) -> None:
        self._ops: list[Any] = list(ops or [])

    def add_op(self, op: Any) -> None:
        self._ops.append(op)

    def process(self, inputs: Sequence[Any]) -> list[Any]:
        raise NotImplementedError(f"{type(self).__name__} must process its inputs.")

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        return self.process(inputs)


class FusedBoundaryOP(_FusedOP):
    """Bucketize."""

    def process(self, inputs: Sequence[Any]) -> list[Any]:
        data = [DataValueProcessor(column) for column in inputs]
        found = fused_bucketize_gpu([d.get_input_value() for d in data], [op.boundary for op in self._ops])
        return [d.get_output_value(result) for d, result in zip(data, found, strict=True)]


class FusedModOP(_FusedOP):
    """Mod."""

    def process(self, inputs: Sequence[Any]) -> list[Any]:
        data = [DataValueProcessor(column) for column in inputs]
        found = fused_uint64_mod_gpu([d.get_input_value() for d in data], [op.mod_value for op in self._ops])
        return [d.get_output_value(result) for d, result in zip(data, found, strict=True)]


class FusedHashOP(_FusedOP):
    """Hash, in one call for each hash_type."""

    def process(self, inputs: Sequence[Any]) -> list[Any]:
        results: list[Any] = [None] * len(inputs)
        for kind, hashes_of in (("farm", farmhash), ("murmur", murmurhash)):
            chosen = [n for n, op in enumerate(self._ops) if op.hash_type == kind]
            given = [inputs[n] for n in chosen]
            found = hashes_of([x.values() for x in given], [x.offsets()[-1].int() for x in given]) if chosen else []
            for n, x, hashes in zip(chosen, given, found, strict=True):
                results[n] = RaggedTensor(hashes, x.offsets()[:-1], x.weight(), x.dense_shape[:-1])
        return results


class FusedCutoffOP(_FusedOP):
    """SequenceTruncate; as in RecIS, check_length is not asked here."""

    def process(self, inputs: Sequence[Any]) -> list[Any]:
        cut = [n for n, op in enumerate(self._ops) if op.truncate]
        results = list(inputs)
        for n, result in zip(cut, truncated([self._ops[n] for n in cut], [inputs[n] for n in cut]), strict=True):
            results[n] = result
        return results


class FusedMultiHashOP(_FusedOP):
    """IDMultiHash."""

    def process(self, inputs: Sequence[Any]) -> list[Any]:
        if not inputs:
            return []
        data = [DataValueProcessor(column) for column in inputs]
        rules = zip(*(op.rule for op in self._ops), strict=True)
        hashes = iter(fused_multi_hash([d.get_input_value() for d in data], *map(list, rules)))
        return [
            {f"multi_hash_{j}": d.get_output_value(next(hashes)) for j in range(op.bucket_lens)}
            for d, op in zip(data, self._ops, strict=True)
        ]


FusedOpFactory.register(Bucketize, FusedBoundaryOP)
FusedOpFactory.register(Mod, FusedModOP)
FusedOpFactory.register(Hash, FusedHashOP)
FusedOpFactory.register(SequenceTruncate, FusedCutoffOP)
FusedOpFactory.register(IDMultiHash, FusedMultiHashOP)
