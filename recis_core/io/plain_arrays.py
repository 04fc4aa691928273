"""Arrays of any type in the plain type of the same values, with their nulls: what every writer takes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recis_core.io.kinds import is_list
from recis_core.io.leaves import running


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of the same values without dictionaries, run ends, views and extension types, at every level."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain(kind.value_type), kind.list_size)
    if is_list(kind):
        large = str(kind).startswith("large")
        return (pa.large_list if large else pa.list_)(plain(kind.value_type))
    views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return views.get(kind, kind)


def plain_array(array: pa.Array) -> pa.Array:
    """The same values and nulls in the type `plain`."""
    kind = array.type
    if kind == plain(kind):
        return array
    if isinstance(array, pa.ExtensionArray):
        return plain_array(array.storage)
    if pa.types.is_run_end_encoded(kind):
        return plain_array(pc.run_end_decode(array))
    if pa.types.is_dictionary(kind):
        return plain_array(array.dictionary).take(array.indices)
    if pa.types.is_struct(kind):
        fields = [plain_array(array.field(n)) for n in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, fields=list(plain(kind)), mask=array.is_null())
    if pa.types.is_map(kind):
        return _plain_map(array)
    return _plain_list(array) if is_list(kind) else array.cast(plain(kind))


def _plain_map(array: pa.MapArray) -> pa.Array:
    offsets = array.offsets.to_numpy() if len(array) else np.zeros(1, np.int32)
    begin, rows = int(offsets[0]), int(offsets[-1] - offsets[0])
    keys, items = (plain_array(side.slice(begin, rows)) for side in (array.keys, array.items))
    return pa.MapArray.from_arrays(pa.array(offsets - begin), keys, items, mask=_mask(array))


def _plain_list(array: pa.Array) -> pa.Array:
    wanted = plain(array.type)
    if pa.types.is_fixed_size_list(wanted):
        size = wanted.list_size
        values = plain_array(array.values.slice(array.offset * size, len(array) * size))
        return pa.FixedSizeListArray.from_arrays(values, size, mask=_mask(array))
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    large = pa.types.is_large_list(wanted)
    offsets = pa.array(running(lengths), pa.int64() if large else pa.int32())
    made = pa.LargeListArray if large else pa.ListArray
    return made.from_arrays(offsets, plain_array(array.flatten()), mask=_mask(array))


def _mask(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None
