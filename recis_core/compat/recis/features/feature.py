"""One feature: a name and its ops."""

from __future__ import annotations

import hashlib
from typing import Any, NoReturn

from torch import nn

from recis_core.compat.recis.features.op import _OP, SelectField, SelectFields


class Feature(nn.Module):
    """A module of ops in order; the first selects input fields.

    As recis.features.feature.Feature.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, self._compiled, self._ops = name, False, nn.ModuleList()

    def set_buffers_data(self, data: Any) -> None:
        """Keeps the data; nothing reads them, as in RecIS."""
        self._buffers_data = data

    @property
    def id(self) -> int:
        return id(self)

    @property
    def name(self) -> str:
        return self._name

    @property
    def compiled(self) -> bool:
        """Whether an engine has it."""
        return self._compiled

    def compiled_(self, value: bool) -> None:
        self._compiled = value

    @property
    def ops(self) -> nn.ModuleList:
        return self._ops

    def add_op(self, op: _OP) -> Feature:
        """Add a step; returns self.

        Raises:
          ValueError: an engine has the feature, or the first op selects no field.
        """
        if self._compiled:
            raise ValueError(
                f"feature {self.name!r} belongs to an engine, and its ops are fixed. Make another Feature."
            )
        if not len(self._ops) and not isinstance(op, SelectField | SelectFields):
            raise ValueError(f"feature {self.name!r}: the first op must be SelectField or SelectFields; got {op}.")
        self._ops.append(op)
        return self

    @staticmethod
    def from_json(json_obj: Any) -> NoReturn:
        raise NotImplementedError(
            "RecIS has no features in JSON; recis_core.features.FeatureEngine.from_yaml reads files."
        )

    def get_hash(self) -> int:
        """Of the name and the ops' arguments; 0 without ops."""
        if not len(self._ops):
            return 0
        text = f"{self._name}:{[op.get_hash() for op in self._ops]}"  # type: ignore[operator]
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)

    def forward(self, data: Any) -> Any:
        for op in self._ops:
            data = op(data)
        return data
