"""Tables from arrays: ids and rows as they are, and an nn.Embedding with the dictionary of its ids.

Sizes: n rows, D dim.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recis_core.nn.id_input import as_ids
from recis_core.serialize.imports.array_pieces import ArrayPiece
from recis_core.serialize.imports.raw_ids import raw_ids
from recis_core.serialize.imports.source import StoredTable, TableSource


def arrays_source(
    name: str, ids: Any, rows: Any, *, slots: Mapping[str, Any] | None = None, t: int | None = None
) -> TableSource:
    """One table of ids and their rows; of an id that is there twice the first row counts.

    Args:
      name: of the table.
      ids: integers [n]: a tensor, an array or a list.
      rows: floats [n, D]: a tensor or an array, which may be mapped from a file (np.load(…, mmap_mode="r")).
      slots: {name: floats [n, width]} of an optimizer, as slot_group() names them.
      t: steps that the optimizer applied.

    Raises:
      TypeError, ValueError: ids are no integers, or sizes differ.
    """
    numbers = as_ids(np.asarray(ids) if isinstance(ids, list | tuple | range) else ids, "ids").reshape(-1).cpu()
    values = _floats("rows", rows)
    extra = {slot: _floats(f"slot {slot!r}", array) for slot, array in (slots or {}).items()}
    for what, array in {"rows": values, **{f"slot {slot!r}": array for slot, array in extra.items()}}.items():
        if len(array) != len(numbers):
            raise ValueError(f"{what} must have a row for each of {len(numbers)} ids; got {list(array.shape)}.")
    piece = ArrayPiece("arrays", values, numbers, extra)
    table = StoredTable(name, values.shape[1], values.dtype, [piece], tuple(extra), len(values), t=t)
    return TableSource("arrays", {name: table})


def embedding_source(
    name: str, embedding: nn.Embedding | nn.EmbeddingBag | Tensor | np.ndarray, ids: Mapping[Any, int]
) -> TableSource:
    """The rows of a plain nn.Embedding that its dictionary names; other rows, such as padding, are left out.

        vocabulary = {"shoes": 1, "hats": 2}
        load_tables_from(embedding_source("category", model.category, vocabulary), engine)

    Args:
      name: of the table.
      embedding: the module, or its weight [n, D].
      ids: {raw id: row}. Integers are ids as they are; text gets the id that readers and recis_core.io.hash_strings give it.

    Raises:
      TypeError: a raw id is neither integer nor text. ValueError: a row is not there, or two raw ids are one id.
    """
    weight = _floats(
        "embedding", embedding.weight if isinstance(embedding, nn.Embedding | nn.EmbeddingBag) else embedding
    )
    numbers = raw_ids(ids, "raw ids")
    rows = torch.tensor([int(row) for row in ids.values()], dtype=torch.int64)
    wrong = [(raw, row) for raw, row in ids.items() if not 0 <= row < len(weight)]
    if wrong:
        raise ValueError(
            f"ids names row {wrong[0][1]} for {wrong[0][0]!r}; the embedding has rows 0 to {len(weight) - 1}."
        )
    _require_distinct(numbers, list(ids))
    piece = ArrayPiece("embedding", weight[rows], numbers)
    table = StoredTable(name, weight.shape[1], weight.dtype, [piece], rows=len(numbers), distinct=True)
    return TableSource("embedding", {name: table})


def _require_distinct(numbers: Tensor, raw: list[Any]) -> None:
    ordered, order = numbers.sort(stable=True)
    again = (ordered[1:] == ordered[:-1]).nonzero().flatten()
    if len(again):
        first, second = (raw[int(order[again[0] + k])] for k in (0, 1))
        raise ValueError(f"raw ids {first!r} and {second!r} are one id, {int(ordered[again[0]])}. Leave one out.")


def _floats(what: str, values: Any) -> Tensor:
    """[n, D] on the CPU, without a copy where that can be."""
    array = values if isinstance(values, Tensor) else _tensor(np.asarray(values))
    if array.dim() != 2 or not array.is_floating_point():
        raise ValueError(f"{what} must be floats [n, dim]; got {array.dtype} {list(array.shape)}.")
    return array.detach().cpu()


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        # Of an array that is mapped read-only; nothing here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
