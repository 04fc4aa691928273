"""Vocabularies in files: a text file of one entry a line, or a column of Parquet.

Sizes: V entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xxhash

PARQUET = (".parquet", ".pq")
Entries = tuple[int, ...] | tuple[str, ...]
LOW, HIGH = -(1 << 63), (1 << 63) - 1


def read_entries(path: Path, column: str | None, integers: bool) -> Entries:
    """The entries of a file, in order.

    Raises:
      FileNotFoundError: no such file. ValueError: it holds no such entries; file and line, or column and row, are named.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no vocabulary {path}.")
    return _of_parquet(path, column) if path.suffix in PARQUET else _of_lines(path, column, integers)


def _of_lines(path: Path, column: str | None, integers: bool) -> Entries:
    if column is not None:
        raise ValueError(f"column is for files of Parquet ({', '.join(PARQUET)}); {path} is read as lines.")
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}, is not UTF-8: {error.reason}.") from None
    lines = text.removesuffix("\n").split("\n") if text else []
    lines = [text_line.removesuffix("\r") for text_line in lines]
    for at, entry in enumerate(lines):
        if not entry:
            raise ValueError(f"{path}, line {at + 1}, is empty; an entry a line is wanted.")
    return tuple(_integer(path, at, entry) for at, entry in enumerate(lines)) if integers else tuple(lines)


def _integer(path: Path, n: int, line: str) -> int:
    try:
        number = int(line)
    except ValueError:
        raise ValueError(f"{path}, line {n + 1}, must be an integer; got {line!r}.") from None
    if not LOW <= number <= HIGH:
        raise ValueError(f"{path}, line {n + 1}, must be a 64-bit integer; got {line}.")
    return number


def _of_parquet(path: Path, column: str | None) -> Entries:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from recis_core.io.kinds import kind_of

    try:
        names = pq.read_schema(path).names
        name = column if column is not None else names[0] if len(names) == 1 else None
        if name is None or name not in names:
            given = "column must name one of its columns" if name is None else f"there is no column {name!r}"
            raise ValueError(f"{path}: {given}; it has {', '.join(names)}.")
        values = pq.read_table(path, columns=[name]).column(0)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, ValueError) and not isinstance(error, pa.ArrowException):
            raise
        raise ValueError(f"{path} is no readable file of Parquet: {error}") from None
    kind = kind_of(values.type)
    if kind is None or kind.depth or kind.values not in ("integer", "text"):
        raise ValueError(f"{path}, column {name!r}, must hold integers or text; it is {values.type}.")
    if values.null_count:
        row = values.is_null().to_pylist().index(True)
        raise ValueError(f"{path}, column {name!r}, row {row} (the first is 0): a null is no entry.")
    return tuple(_plain(path, name, n, value) for n, value in enumerate(values.to_pylist()))


def _plain(path: Path, column: str, n: int, value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{path}, column {column!r}, row {n} (the first is 0), is not UTF-8.") from None
    return value - (1 << 64) if isinstance(value, int) and value > HIGH else value


def content_of(entries: Sequence[int] | Sequence[str]) -> str:
    """A hash of entries and their order, by which a changed file is seen."""
    hashing = xxhash.xxh3_128()
    for entry in entries:
        encoded = str(entry).encode(errors="surrogatepass")
        hashing.update(f"{type(entry).__name__}{len(encoded)}:".encode() + encoded)
    return f"xxh3:{hashing.hexdigest()}"
