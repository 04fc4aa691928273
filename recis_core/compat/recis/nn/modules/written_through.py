"""A tensor of a table's values that notices when it is written into, and writes into the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

Write = Callable[[], None]
SHARING = {Tensor.numpy, Tensor.__array__, Tensor.__dlpack__}  # what these give could be written into unnoticed


class WrittenThrough(Tensor):
    """Values, and what to call after a write into them or a view of them. Results of other operations are plain tensors.

    numpy() and DLPack get copies. Operations that take no notice of tensors' classes, collectives among them, write into
    these values alone: copy their results in.
    """

    _plain: Tensor
    _write: Write

    @staticmethod
    def of(plain: Tensor, write: Write) -> WrittenThrough:
        made = torch.Tensor._make_subclass(WrittenThrough, plain)
        made._plain, made._write = plain, write
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given: list[WrittenThrough] = []
        sharing = func in SHARING

        def plainly(value: Any) -> Any:
            if not isinstance(value, WrittenThrough):
                return value
            given.append(value)
            return value._plain.clone() if sharing else value._plain

        plain_args, plain_kwargs = tree_map(plainly, args), tree_map(plainly, kwargs or {})
        before = [each._plain._version for each in given]
        found = func(*plain_args, **plain_kwargs)
        for each, version in zip(given, before, strict=True):
            if each._plain._version != version:
                each._write()
        return tree_map(lambda value: _as_given(value, given), found)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._plain.clone().__reduce_ex__(protocol)


def _as_given(value: Any, given: list[WrittenThrough]) -> Any:
    """A result that shares values is one of these tensors again."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return value
    for each in given:
        if value is each._plain:
            return each
        if value.numel() and value.untyped_storage().data_ptr() == each._plain.untyped_storage().data_ptr():
            return WrittenThrough.of(value, each._write)
    return value
