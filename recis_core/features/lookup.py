"""Lookup: a map's value by its key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.features.arguments import as_number, as_whole
from recis_core.features.hash import check_text, hashed_texts
from recis_core.features.memory import array
from recis_core.features.op import Op
from recis_core.features.same_texts import letters_of
from recis_core.features.value import check_kind, check_rows, described, is_text, rows_and_values
from recis_core.hashing import murmurhash
from recis_core.hashing.columns import runs_loops
from recis_core.ragged import RaggedTensor

Rows = tuple[Tensor, Tensor]  # values [N], offsets [B + 1]
LEAST, MOST = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, eq=False, repr=False)
class Lookup(Op):
    """The value that stands beside a key in a row of a map, which is two columns: keys and values.

        keys 3 7 | 7 | 3     values .1 .2 | .3 | .4     Lookup(7, default=0)   →   .2 | .3 | 0

    Args:
      key: an integer or a text, looked for in each row. None: a third column of SelectFields holds the keys to look for.
      default: the value where a row lacks the key. None: there is none, and the result's row is empty.

    Takes [keys, values] or [keys, values, wanted], of one level and as many rows: keys are integers or text, values are
    numbers, wanted is a tensor [B] or [B, F] or a RaggedTensor. Gives values' dtype: with a default a tensor [B], or the
    form of wanted; without one a RaggedTensor. A key that stands twice in a row counts at its first place. Text is
    compared by its MurmurHash64A, of 64 bits.
    """

    key: int | str | None = None
    default: float | None = None

    def __post_init__(self) -> None:
        if self.key is not None and not isinstance(self.key, str):
            self._set(key=as_whole(self.key, "key", LEAST, MOST))
        if isinstance(self.default, int):
            self._set(default=as_whole(self.default, "default", LEAST, MOST))
        elif self.default is not None:
            self._set(default=as_number(self.default, "default"))

    def kinds(self, inputs: int) -> list[str]:
        keys = "any" if self.key is None else "text" if isinstance(self.key, str) else "int"
        return [keys, "number", keys][:inputs]

    def check(self, value: Any) -> None:
        wanted = 2 if self.key is not None else 3
        if not isinstance(value, list) or len(value) != wanted:
            columns = "keys, values" if wanted == 2 else "keys, values, wanted"
            raise TypeError(f"the input must be SelectFields([{columns}]); got {described(value)}.")
        for what, column in zip(("keys", "wanted"), value[::2], strict=False):
            self._check_keys(what, column)
        if self.key is None and is_text(value[0]) != is_text(value[2]):
            raise TypeError(f"keys and wanted must be of one kind; got {described(value[0])}, {described(value[2])}.")
        check_kind(value[1], "number", "values")
        check_rows(value[1], "values")
        self._check_default(value[1])
        self._check_together(value)

    def _check_keys(self, what: str, column: Any) -> None:
        if isinstance(self.key, str) or (self.key is None and is_text(column)):
            check_text(column, what)
            if len(column.offsets()) != 2:
                raise ValueError(f"{what} must be rows of texts, two levels of offsets; got {column!r}.")
        else:
            check_kind(column, "int", what)
            check_rows(column, what)

    def _check_default(self, values: Any) -> None:
        if isinstance(self.default, float) and not values.dtype.is_floating_point:
            raise ValueError(f"default must be an integer, as values are {values.dtype}; got {self.default!r}.")

    @staticmethod
    def _check_together(value: Sequence[Any]) -> None:
        rows = [len(column) for column in value]
        if len(set(rows)) > 1:
            raise ValueError(f"columns must have as many rows as another; got {', '.join(map(str, rows))}.")
        bounds = value[0].offsets()[0] if is_text(value[0]) else rows_and_values(value[0])[1]
        others = rows_and_values(value[1])[1]
        if bounds.device.type == "cpu" and not torch.equal(bounds, others):
            row = int((bounds.diff() != others.diff()).nonzero()[0])
            lengths = f"{int(bounds.diff()[row])} and {int(others.diff()[row])}"
            raise ValueError(f"a row must have as many keys as values; row {row} has {lengths}.")

    @classmethod
    def run(cls, ops: Sequence[Lookup], values: Sequence[Any]) -> list[Any]:
        return [op._found(value) for op, value in zip(ops, values, strict=True)]

    def _found(self, value: Sequence[Any]) -> Any:
        keys, bounds = _ids(value[0])
        wanted, places = self._wanted(value, bounds), value[1]
        found = first_places((keys, bounds), wanted)
        values, _ = rows_and_values(places)
        if self.default is None:
            return _present(values, found, wanted[1])
        results = torch.full((len(found),), self.default, dtype=values.dtype, device=values.device)
        here = found >= 0
        results[here] = values[found[here]]
        return results if self.key is not None else _as_wanted(value[2], results)

    def _wanted(self, value: Sequence[Any], bounds: Tensor) -> Rows:
        if self.key is None:
            return _ids(value[2])
        B = len(bounds) - 1
        key = self.key if isinstance(self.key, int) else self._kept("key", lambda: _text_key(str(self.key)))
        ids = torch.full((B,), key, dtype=torch.int64, device=bounds.device)
        return ids, torch.arange(B + 1, device=bounds.device)


def _text_key(key: str) -> int:
    return int(murmurhash(*letters_of([key]))[0])


def _ids(column: Any) -> Rows:
    if is_text(column):
        (hashed,) = hashed_texts([column], "murmur")
        return hashed.values(), hashed.offsets()[0]
    ids, bounds = rows_and_values(column)
    return ids.to(torch.int64), bounds


def _present(values: Tensor, found: Tensor, bounds: Tensor) -> RaggedTensor:
    """The found ones alone, in rows."""
    here = found >= 0
    counts = torch.cat([bounds.new_zeros(1), here.cumsum(0)])
    return RaggedTensor(values[found[here]], counts[bounds])


def _as_wanted(wanted: Any, results: Tensor) -> Any:
    if isinstance(wanted, Tensor):
        return results.reshape(wanted.shape)
    return RaggedTensor(results, wanted.offsets()[0]) if is_text(wanted) else wanted.with_values(results)


def first_places(keys: Rows, wanted: Rows) -> Tensor:
    """int64 [W]: the first place of each wanted id among the keys of its row, -1 for none."""
    if not runs_loops(keys[0].device):
        return _first_places(keys, wanted)
    from recis_core.backends.feature_loops.keys_in_rows import first_places as loop  # loads numba

    found = np.empty(len(wanted[0]), np.int64)
    loop(*map(array, (*keys, *wanted)), found)
    return torch.from_numpy(found)


def _first_places(keys: Rows, wanted: Rows) -> Tensor:
    (ids, offsets), (others, bounds) = keys, wanted
    W = len(others)
    rows = torch.repeat_interleave(torch.arange(len(bounds) - 1, device=ids.device), bounds.diff(), output_size=W)
    counts = offsets.diff()[rows]
    ends = counts.cumsum(0)
    pairs = int(ends[-1]) if W else 0
    w = torch.repeat_interleave(torch.arange(W, device=ids.device), counts, output_size=pairs)
    place = torch.arange(pairs, device=ids.device) - (ends - counts)[w] + offsets[rows][w]
    none = len(ids)
    held = torch.where(ids[place] == others[w], place, none)
    first = torch.full((W,), none, device=ids.device).scatter_reduce(0, w, held, "amin")
    return torch.where(first == none, -1, first)
