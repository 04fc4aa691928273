"""SelectField, SelectFields: the input fields of a feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from recis_core.features.arguments import as_dtype, as_flag, as_list, as_text, as_whole
from recis_core.features.op import Op
from recis_core.features.value import described
from recis_core.ragged import RaggedTensor


@dataclass(frozen=True, eq=False, repr=False)
class SelectField(Op):
    """The input field `name`, as it is: a tensor or RaggedTensor.

    Args:
      dtype: what the field holds, for `FeatureEngine.input_columns`; values are not converted, as in RecIS.
      dim: the size of the last dimension of a RaggedTensor in `to_dense`; None leaves it.
      from_dict: False takes the input itself, for a Feature that is called on one column.

    Raises:
      KeyError: the input has no such field. TypeError: the field is no tensor.
    """

    name: str
    dtype: torch.dtype = torch.long
    dim: int | None = None
    from_dict: bool = True

    def __post_init__(self) -> None:
        self._set(
            name=as_text(self.name, "name"),
            dtype=as_dtype(self.dtype, "dtype"),
            dim=None if self.dim is None else as_whole(self.dim, "dim", 0),
            from_dict=as_flag(self.from_dict, "from_dict"),
        )

    def check(self, value: Any) -> None:
        self.select(value)

    def select(self, data: Any) -> Any:
        found = self._found(data) if self.from_dict else data
        if not isinstance(found, Tensor | RaggedTensor):
            where = f"field {self.name!r}" if self.from_dict else "the input"
            raise TypeError(
                f"{where} must be a tensor or RaggedTensor; got {described(found)}. torch.from_numpy and "
                "RaggedTensor.from_numpy make them of arrays."
            )
        return found if self.dim is None or isinstance(found, Tensor) else self._sized(found, self.dim)

    def _found(self, data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise TypeError(
                f"the input must be a dict of fields; got {described(data)}. SelectField(from_dict=False) takes a column."
            )
        if self.name not in data:
            raise KeyError(f"the input has no field {self.name!r}; it has {', '.join(map(str, data)) or 'none'}.")
        return data[self.name]

    @staticmethod
    def _sized(value: RaggedTensor, dim: int) -> RaggedTensor:
        sized = value.with_values(value.values())  # another RaggedTensor of the same memory
        sized.set_dim_by_rank(dim, -1)
        return sized

    @classmethod
    def run(cls, ops: Sequence[SelectField], values: Sequence[Any]) -> list[Any]:
        return [op.select(value) for op, value in zip(ops, values, strict=True)]


@dataclass(frozen=True, eq=False, repr=False)
class SelectFields(Op):
    """Several input fields, as a list, for an op that takes several.

    Args:
      input_list: SelectFields of one field each, or names.
    """

    input_list: tuple[SelectField, ...]

    def __post_init__(self) -> None:
        items = as_list(self.input_list, "input_list")
        if not items:
            raise ValueError("input_list must name at least one field; got [].")
        self._set(input_list=tuple(map(_as_field, items)))

    def arguments(self) -> dict[str, Any]:
        return {"input_list": [field.arguments() for field in self.input_list]}

    def written(self, folder: Path) -> dict[str, Any]:
        fields = [field.written(folder) for field in self.input_list]
        return {"input_list": [f["name"] if len(f) == 1 else f for f in fields]}

    def check(self, value: Any) -> None:
        for field in self.input_list:
            field.check(value)

    @classmethod
    def run(cls, ops: Sequence[SelectFields], values: Sequence[Any]) -> list[Any]:
        return [[field.select(value) for field in op.input_list] for op, value in zip(ops, values, strict=True)]


def _as_field(item: Any) -> SelectField:
    if isinstance(item, SelectField):
        return item
    if isinstance(item, str):
        return SelectField(item)
    if isinstance(item, Mapping):
        return cast(SelectField, SelectField.of(item))
    raise TypeError(f"input_list must hold SelectFields or names of fields; got {item!r}.")
