"""Arrow's text to 64-bit hashes, read where Arrow has it: no Python object a text, and no copy.

Sizes: C chunks of all columns, N texts of all columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recis_core.hashing.columns import as_columns, is_many, starts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

KINDS = ("xxh3", "farm", "murmur")


def hash_texts(array: pa.Array | pa.ChunkedArray | Sequence[pa.Array | pa.ChunkedArray], kind: str = "xxh3") -> Any:
    """Hashes of a column of text.

        hash_texts(pa.array(["a", None, "b"]))        # int64 [3], null in the middle

    Args:
      array: Arrow's string, binary, large_string, large_binary, string_view, binary_view or fixed_size_binary, a dictionary
        of these, or nulls; sliced or in chunks; or a list of such columns. Text is hashed as its UTF-8 bytes.
      kind: "xxh3", XXH3 of 64 bits, seed 0, the ids that `recis_core.io.hash_strings` gives; "farm", FarmHash's Fingerprint64;
        "murmur", MurmurHash64A, seed 0.

    Returns:
      An int64 array [N], the hash's 64 bits; null stays null. For columns a list of arrays, in one call.

    Raises:
      TypeError: an array is no text. ValueError: offsets or views of the array lead out of its buffers.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be {', '.join(KINDS)}; got {kind!r}.")
    hashed = _hash_columns([_chunks_of(column) for column in as_columns(array)], kind)
    return hashed if is_many(array) else hashed[0]


def _chunks_of(column: Any) -> list[Any]:
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        return list(column.chunks)
    if isinstance(column, pa.Array):
        return [column]
    raise TypeError(
        f"array must be an Arrow array, or a list of them; got {type(column).__name__}. pa.array(texts) makes one."
    )


def _hash_columns(columns: list[list[Any]], kind: str) -> list[Any]:
    """Dictionaries are hashed by distinct value, in the same call as all else, and then looked up."""
    import pyarrow as pa

    chunks = [_plain(chunk) for column in columns for chunk in column]
    hashed = iter(_hash_plain([_stored(chunk) for chunk in chunks], kind))
    made = iter([_looked_up(chunk, next(hashed)) for chunk in chunks])
    parts = [[next(made) for _ in column] for column in columns]
    return [found[0] if len(found) == 1 else pa.concat_arrays([pa.array([], pa.int64()), *found]) for found in parts]


def _plain(chunk: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(chunk, pa.ExtensionArray):
        return _plain(chunk.storage)
    return pc.run_end_decode(chunk) if pa.types.is_run_end_encoded(chunk.type) else chunk


def _stored(chunk: Any) -> Any:
    import pyarrow as pa

    return _plain(chunk.dictionary) if pa.types.is_dictionary(chunk.type) else chunk


def _looked_up(chunk: Any, hashed: Any) -> Any:
    import pyarrow as pa

    return hashed.take(chunk.indices) if pa.types.is_dictionary(chunk.type) else hashed


def _hash_plain(chunks: list[Any], kind: str) -> list[Any]:
    from recis_core.backends.column_loops import hash_texts as loops  # loads numba

    columns, starts, kept = np.zeros(len(chunks), loops.COLUMN), starts_of([len(chunk) for chunk in chunks]), []
    for column, chunk in zip(columns, chunks, strict=True):
        if len(chunk):
            kept.append(_place(column, chunk))
    out = np.empty(int(starts[-1]), np.int64)
    wrong = loops.hash_columns(kind, columns, starts, out)
    if wrong is not None:
        raise ValueError(
            f"text {wrong[1]} of an Arrow array of {chunks[wrong[0]].type} lies outside of its buffers: the array is damaged. "
            "array.validate(full=True) says how; read or build it anew."
        )
    return [_as_array(chunk, out[beg : beg + len(chunk)]) for chunk, beg in zip(chunks, starts.tolist(), strict=False)]


def _place(column: Any, chunk: Any) -> Any:
    """Fill a COLUMN with where an array's texts are; returns what must be kept alive meanwhile."""
    import pyarrow as pa

    from recis_core.backends.column_loops import hash_texts as loops

    buffers, kind = chunk.buffers(), chunk.type
    column["valid_from"] = chunk.offset
    if chunk.null_count and buffers[0] is not None:
        column["valid"] = buffers[0].address
    if pa.types.is_null(kind):
        column["layout"] = loops.FIXED  # of width 0
        return None
    if pa.types.is_fixed_size_binary(kind):
        column["layout"], column["width"] = loops.FIXED, kind.byte_width
        column["data"], column["size"] = _extent(buffers[1])
        return None
    narrow = pa.types.is_string(kind) or pa.types.is_binary(kind)
    wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    if narrow or wide:
        column["layout"] = loops.OFFSETS64 if wide else loops.OFFSETS32
        column["places"] = buffers[1].address + chunk.offset * (8 if wide else 4)
        column["data"], column["size"] = _extent(buffers[2])
        return None
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        tables = np.array([_extent(buffer) for buffer in buffers[2:]], np.int64).reshape(-1, 2)
        column["layout"], column["places"] = loops.VIEWS, buffers[1].address + 16 * chunk.offset
        column["data"], column["buffers"] = tables.ctypes.data, len(tables)
        return tables
    raise TypeError(f"array must hold text or bytes; got {kind}. Cast it first: array.cast(pa.string()).")


def _extent(buffer: Any) -> tuple[int, int]:
    return (0, 0) if buffer is None else (buffer.address, buffer.size)


def _as_array(chunk: Any, hashes: np.ndarray) -> Any:
    import pyarrow as pa

    if not chunk.null_count:
        return pa.array(hashes)
    valid = chunk.is_valid()
    return pa.Array.from_buffers(pa.int64(), len(chunk), [valid.buffers()[1], pa.py_buffer(hashes)], chunk.null_count)
