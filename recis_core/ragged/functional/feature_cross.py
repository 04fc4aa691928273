"""Crosses of two ragged columns. Sizes: C crosses, B rows, N values of a column, M crossed values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from recis_core.hashing.columns import addresses, as_columns, check_dtype, device_of, is_many, runs_loops
from recis_core.hashing.murmur import murmur_pair
from recis_core.ragged.functional.columns import refusal
from recis_core.ragged.offsets import check_content, rows_of
from recis_core.ragged.tensor import RaggedTensor

Column = RaggedTensor | Tensor
Crossed = tuple[
    Tensor, Tensor, Tensor, Tensor
]  # ids [M], offsets [B + 1], and the places [M] in x and y they come from


@overload
def feature_cross(x: Column, y: Column) -> RaggedTensor: ...
@overload
def feature_cross(x: Sequence[Column], y: Sequence[Column]) -> list[RaggedTensor]: ...
def feature_cross(x: Any, y: Any) -> Any:
    """Each row's distinct ids of x times its distinct ids of y, as new ids.

        row of x: [a b a]   of y: [p q]   →   [ap aq bp bq]

    Ids stand in the order in which they first occur, x's outside. A pair's id is `recis_core.hashing.murmur_pairs` of both; its
    weight is the product of theirs, where the first weight of an id in a row counts, and none is 1.

    Args:
      x, y: RaggedTensors of int64 with equal numbers of rows; or int64 tensors [B], a row of one each, or [B, L]; or two lists
        of as many columns. Of several levels the last is crossed; x and y must have as many rows there.

    Returns:
      A RaggedTensor of int64 with x's outer levels and weights, float32 ones where neither has any; gradients flow to weights.
      For columns a list, in one call.

    Raises:
      TypeError: ids are no int64. ValueError: numbers of rows, devices or numbers of columns differ.
    """
    xs, ys = [_as_ragged(c, "x") for c in as_columns(x)], [_as_ragged(c, "y") for c in as_columns(y)]
    if len(xs) != len(ys):
        raise ValueError(f"y must have as many columns as x = {len(xs)}; got {len(ys)}.")
    device = device_of([c.values() for c in [*xs, *ys]], "x and y")
    for a, b in zip(xs, ys, strict=True):
        if len(a.offsets()[-1]) != len(b.offsets()[-1]):
            rows = len(a.offsets()[-1]) - 1, len(b.offsets()[-1]) - 1
            raise ValueError(f"x and y must have equal numbers of rows; got {rows[0]} and {rows[1]}.")
    found = (_by_loops if runs_loops(device) else _by_torch)(xs, ys)
    made = [_weighted(a, b, crossed) for a, b, crossed in zip(xs, ys, found, strict=True)]
    return made if is_many(x) else made[0]


def _as_ragged(column: Any, name: str) -> RaggedTensor:
    if isinstance(column, Tensor):
        if column.dim() not in (1, 2):
            raise ValueError(f"{name} must be [B] or [B, L]; got shape {tuple(column.shape)}.")
        column = RaggedTensor.from_dense(column if column.dim() == 2 else column[:, None])
    if not isinstance(column, RaggedTensor):
        raise TypeError(f"{name} must be a RaggedTensor or a tensor, or a list of them; got {type(column).__name__}.")
    check_dtype([column.values()], (torch.int64,), f"ids of {name}")
    if column.values().dim() != 1:
        raise ValueError(f"ids of {name} must be [N]; got shape {tuple(column.values().shape)}.")
    return column


def _weighted(x: RaggedTensor, y: RaggedTensor, crossed: Crossed) -> RaggedTensor:
    ids, offsets, from_x, from_y = crossed
    wx, wy = x.weight(), y.weight()
    if wx is None and wy is None:
        weight = torch.ones(len(ids), dtype=torch.float32, device=ids.device)
    elif wx is None or wy is None:
        weight = wy[from_y] if wx is None and wy is not None else wx[from_x]  # type: ignore[index]
    else:
        weight = wx[from_x] * wy[from_y]
    made = x._like(ids, [*x.offsets()[:-1], offsets], weight)
    made._dense_shape = (*x._dense_shape[:-1], _dense_size(x, y))
    made.set_pad_info(None)
    return made


def _dense_size(x: RaggedTensor, y: RaggedTensor) -> int:
    a, b = x._dense_shape[-1], y._dense_shape[-1]
    return -1 if -1 in (a, b) else a * b


def _by_torch(xs: list[RaggedTensor], ys: list[RaggedTensor]) -> list[Crossed]:
    """All crosses as one, their rows one after another."""
    if not xs:
        return []
    sizes = [len(x.offsets()[-1]) - 1 for x in xs]
    (ids, values_x, edges_x), (others, values_y, edges_y) = _chained(xs), _chained(ys)
    at_x, many_x = _first_of_rows(ids, edges_x)
    at_y, many_y = _first_of_rows(others, edges_y)
    offsets = _running(many_x * many_y)
    row = rows_of(offsets, int(offsets[-1]))
    place = torch.arange(len(row), device=ids.device) - offsets[row]
    from_x = at_x[_running(many_x)[row] + place // many_y[row]]
    from_y = at_y[_running(many_y)[row] + place % many_y[row]]
    made, ends = (
        murmur_pair(ids[from_x], others[from_y]),
        offsets[torch.tensor(sizes, device=ids.device).cumsum(0)].tolist(),
    )
    crossed, beg, row_at = [], 0, 0
    for c, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        own = offsets[row_at : row_at + size + 1] - beg
        crossed.append((made[beg:end], own, from_x[beg:end] - values_x[c], from_y[beg:end] - values_y[c]))
        beg, row_at = end, row_at + size
    return crossed


def _chained(columns: list[RaggedTensor]) -> tuple[Tensor, list[int], Tensor]:
    """(ids of all columns, where each column's begin, offsets of all rows)."""
    begins = np.cumsum([0, *(len(c.values()) for c in columns)]).tolist()
    edges = [columns[0].offsets()[-1][:1]]
    edges += [c.offsets()[-1][1:] + beg for c, beg in zip(columns, begins, strict=False)]
    return torch.cat([c.values() for c in columns]), begins, torch.cat(edges)


def _first_of_rows(ids: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """(places of ids that are not in their row before, int64 [B] how many of each row)."""
    row = rows_of(offsets, len(ids))
    order = ids.argsort(stable=True)
    order = order[row[order].argsort(stable=True)]
    again = (ids[order[1:]] == ids[order[:-1]]) & (row[order[1:]] == row[order[:-1]])
    first = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    first[order[1:]] = ~again
    counts = torch.bincount(row[first], minlength=len(offsets) - 1)
    return first.nonzero()[:, 0], counts


def _running(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _by_loops(xs: list[RaggedTensor], ys: list[RaggedTensor]) -> list[Crossed]:
    from recis_core.backends.column_loops import feature_cross as loops  # loads numba

    tensors = [[c.values().contiguous() for c in side] for side in (xs, ys)]
    levels = [[c.offsets()[-1].contiguous() for c in side] for side in (xs, ys)]
    rows = np.array([len(level) - 1 for level in levels[0]], np.int64)
    sides = [
        loops.Side(addresses(v), addresses(o), np.array([len(p) for p in v], np.int64))
        for v, o in zip(tensors, levels, strict=True)
    ]
    weighted = np.array(
        [x.weight() is not None or y.weight() is not None for x, y in zip(xs, ys, strict=True)], np.bool_
    )
    found = loops.cross_columns(sides[0], sides[1], rows, weighted)
    if isinstance(found, int):
        x, y = xs[found], ys[found]
        check_content(x.offsets()[-1:], len(x.values()))
        raise refusal(y.offsets()[-1:], len(y.values()))
    offsets, ids, from_x, from_y, begins = found
    crossed, row_at, place_at = [], 0, 0
    for c, size in enumerate(rows.tolist()):
        beg, end = begins[c], begins[c + 1]
        many = end - beg if weighted[c] else 0
        places = tuple(torch.from_numpy(p[place_at : place_at + many]) for p in (from_x, from_y))
        own = torch.from_numpy(offsets[row_at + c : row_at + c + size + 1])
        crossed.append((torch.from_numpy(ids[beg:end]), own, places[0], places[1]))
        row_at, place_at = row_at + size, place_at + many
    return crossed
