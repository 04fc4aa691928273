"""One feature of a batch: its columns, their roles, and their conversion to tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from recis_core.io.columns import FLOATS, fixed_column, ragged_column, weighted_column
from recis_core.io.defaults import check_default, check_fits, check_numbers
from recis_core.io.file_set import FileSet
from recis_core.io.kinds import kind_of, leaf_type
from recis_core.io.leaves import over_leaves
from recis_core.io.list_offsets import ListOffsets
from recis_core.io.nulls import NullRule, as_id, nan_to_null
from recis_core.io.numbers import check_dense, check_labels, check_probabilities
from recis_core.io.roles import Ids, Numbers, Role, Values
from recis_core.io.time_units import check_unit
from recis_core.ragged import RaggedTensor


@dataclass(frozen=True)
class Use:
    """A column in a role."""

    column: str
    role: Role


@dataclass(frozen=True)
class Feature:
    """convert: from the offsets of the part's columns and the arrays of `Role.prepare`, one for each use, to the batch's value.
    check: of files and targets."""

    name: str
    uses: tuple[Use, ...]
    convert: Callable[..., Any]
    check: Callable[[FileSet, list[pa.DataType]], None] = lambda files, targets: None

    def targets(self, files: FileSet) -> list[pa.DataType]:
        """The types that the columns are read as. Raises ValueError or TypeError if a file has no such columns."""
        found = [files.target(use.column, use.role) for use in self.uses]
        self.check(files, found)
        return found


def variable_length(name: str, dtype: torch.dtype | None, unit: str | None, nulls: NullRule) -> Feature:
    check_unit(unit, name)

    def check(files: FileSet, targets: list[pa.DataType]) -> None:
        check_default(nulls.default, targets[0], dtype, _place(name, files))

    use = Use(name, Values(unit))
    return Feature(name, (use,), lambda offsets, array: ragged_column(nulls.applied(array), dtype, offsets), check)


def fixed_length(
    name: str, default: float | Sequence[float], dtype: torch.dtype | None, unit: str | None, nulls: NullRule
) -> Feature:
    check_unit(unit, name)
    numbers = check_numbers(default, name)

    def check(files: FileSet, targets: list[pa.DataType]) -> None:
        leaf, kind, where = leaf_type(targets[0]), kind_of(targets[0]), _place(name, files)
        if kind is None or kind.depth > 1 or kind.values == "text":
            what = "text" if kind and kind.values == "text" else "nested"
            raise ValueError(f"{where} is {what}; a fixed-length feature is a number or one list of numbers. {_OTHER}")
        check_fits(numbers, dtype or FLOATS[leaf] if kind.values == "floating" else torch.int64, where)

    use = Use(name, Values(unit))
    return Feature(name, (use,), lambda _, array: fixed_column(nulls.applied(array), default, dtype), check)


def _place(name: str, files: FileSet) -> str:
    return f"column {name!r} of {next(iter(files.rows))}"


_OTHER = "Use varlen_feature, or id_feature for ids."


def ids(name: str, weight: str | None, role: Ids, nulls: NullRule) -> Feature:
    check_unit(role.unit, name)
    nulls = replace(nulls, default=as_id(nulls.default))
    if nulls.default is not None:
        check_fits(check_numbers(nulls.default, name), torch.int64, f"a column of ids, {name!r},")
        if weight is not None:
            raise ValueError(
                f"default of {name!r} goes without weights; {weight!r} would need one for it. Drop nulls, or weights."
            )
    if weight is None:
        return Feature(
            name, (Use(name, role),), lambda offsets, array: ragged_column(nulls.applied(array), None, offsets)
        )

    def check(files: FileSet, targets: list[pa.DataType]) -> None:
        for file in files.rows:
            columns = files.columns_of(file)
            mine, theirs = kind_of(columns[name]), kind_of(columns[weight])
            if mine and theirs and mine.depth != theirs.depth and "null" not in (mine.values, theirs.values):
                raise TypeError(
                    f"column {weight!r} must hold one weight an id of {name!r}; in {file} they are {columns[weight]} and "
                    f"{columns[name]}. Write both as lists, or leave {weight!r} out."
                )

    def convert(offsets: ListOffsets, array: pa.Array, weights: pa.Array) -> RaggedTensor:
        return weighted_column(nulls.applied(array), weights, weight, offsets)

    uses = (Use(name, role), Use(weight, Numbers(f"weights of {name!r}")))
    return Feature(name, uses, convert, check)


DENSE = "All rows of a dense input are of one length."


def dense(name: str, width: int, dtype: torch.dtype | None, nulls: NullRule) -> Feature:
    default = 0.0 if nulls.default is None else nulls.default
    check_fits(check_numbers(default, name), dtype or torch.float64, f"column {name!r}")

    def convert(_: ListOffsets, array: pa.Array) -> Tensor:
        if nulls.error:
            nulls.applied(over_leaves(array, nan_to_null))
        found = fixed_column(array, [default] * width, dtype, DENSE)
        return torch.where(found.isnan(), found.new_tensor(default), found)

    return Feature(name, (Use(name, Numbers("dense inputs", check_dense)),), convert)


def label(name: str) -> Feature:
    role = Numbers("labels of 0 and 1", check_labels)
    return Feature(name, (Use(name, role),), lambda _, array: ragged_column(array, torch.float32).values())


def probability(name: str) -> Feature:
    role = Numbers("probabilities", check_probabilities)
    return Feature(name, (Use(name, role),), lambda _, array: ragged_column(array, torch.float32).values())
