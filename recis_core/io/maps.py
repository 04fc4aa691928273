"""A column of maps is read as two columns of lists of equal lengths: NAME.keys and NAME.values."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from recis_core.io.leaves import one_array

OF, SIDE = b"recis.map", b"recis.side"
KEYS, VALUES = ".keys", ".values"


def split_schema(schema: pa.Schema) -> pa.Schema:
    """The same columns with two in place of each map; they remember which map they are of."""
    return pa.schema([field for each in schema for field in _sides(each)])


def _sides(field: pa.Field) -> list[pa.Field]:
    if not pa.types.is_map(field.type):
        return [field.remove_metadata()]
    sides = ((KEYS, field.type.key_type), (VALUES, field.type.item_type))
    return [pa.field(field.name + side, pa.list_(kind), metadata={OF: field.name, SIDE: side}) for side, kind in sides]


def held_names(wanted: pa.Schema) -> list[str]:
    """The file's own columns that `wanted`, of a split schema, is made of."""
    return list(dict.fromkeys(_held(field) for field in wanted))


def _held(field: pa.Field) -> str:
    return field.metadata[OF].decode() if _is_side(field) else field.name


def _is_side(field: pa.Field) -> bool:
    return field.metadata is not None and OF in field.metadata


def split_columns(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """The columns of a split schema, of a table of the file's own."""
    if not any(map(_is_side, wanted)):
        return table.select(wanted.names)  # which has its rows without columns, too
    return pa.table({field.name: _column(table, field) for field in wanted})


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    held = table[_held(field)]
    if not _is_side(field):
        return held
    array = one_array(held)
    values = array.keys if field.metadata[SIDE].decode() == KEYS else array.items
    return pa.chunked_array([_side(array, values)])


def _side(array: pa.MapArray, values: pa.Array) -> pa.Array:
    """Keys or values as lists; the lists of null maps are null."""
    if len(array) == 0:
        return pa.array([], pa.list_(values.type))
    lists = pa.ListArray.from_arrays(array.offsets, values)
    return pc.if_else(array.is_valid(), lists, pa.scalar(None, lists.type)) if array.null_count else lists
