"""Columns of text that become ids: all of a part in one call.

Sizes: n rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recis_core.hashing import hash_texts
from recis_core.io.feature import Use
from recis_core.io.kinds import TESTS, is_list, leaf_type
from recis_core.io.leaves import decoded, flattened, one_array
from recis_core.io.roles import Ids


def text_ids_of(columns: Sequence[pa.ChunkedArray]) -> list[pa.Array]:
    """The ids of columns of text, int64 or lists of int64; null stays null."""
    if not columns:
        return []
    texts = [_texts(column) for column in columns]
    hashed = hash_texts([values for _, values in texts], "xxh3")
    return [_listed(offsets, ids) for (offsets, _), ids in zip(texts, hashed, strict=True)]


def reads_text(columns: dict[str, pa.DataType], uses: Sequence[Use]) -> bool:
    """Whether a use is ids of text, in files of these columns."""
    return any(is_text_id(use, columns[use.column]) for use in uses)


def coded_texts(schema: pa.Schema, uses: Sequence[Use]) -> pa.Schema:
    """The schema with dictionaries for text, where ids of it are all that is read: each value is hashed once."""
    fields = {field.name: field for field in schema}
    for name, field in fields.items():
        mine = [use for use in uses if use.column == name]
        if mine and TESTS["text"](field.type) and all(is_text_id(use, field.type) for use in mine):
            fields[name] = field.with_type(pa.dictionary(pa.int32(), field.type))
    return pa.schema(list(fields.values()))


def is_text_id(use: Use, kind: pa.DataType) -> bool:
    """Whether a column of this type is read as ids of text."""
    return isinstance(use.role, Ids) and use.role.unit is None and TESTS["text"](leaf_type(kind))


def _texts(column: pa.ChunkedArray) -> tuple[np.ndarray | None, pa.Array | pa.ChunkedArray]:
    """(offsets of lists, or None; text). Dictionaries stay: their values are hashed once each."""
    if not is_list(column.type):
        return None, column
    return flattened(decoded(one_array(column)))


def _listed(offsets: np.ndarray | None, ids: pa.Array) -> pa.Array:
    return ids if offsets is None else pa.LargeListArray.from_arrays(pa.array(offsets), ids)
