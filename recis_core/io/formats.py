"""The formats of files, by suffix."""

from __future__ import annotations

import os

from recis_core.io.arrow_format import ArrowFormat
from recis_core.io.csv_format import CsvFormat
from recis_core.io.file_format import FileFormat, OrcFormat, ParquetFormat

FORMATS: tuple[FileFormat, ...] = (ParquetFormat(), OrcFormat(), CsvFormat(), ArrowFormat())
SUFFIXES = tuple(suffix for form in FORMATS for suffix in form.suffixes)
READ = (
    "Parquet (.parquet, .pq), ORC (.orc), CSV (.csv, .tsv; also .gz, .bz2, .zst) and Arrow IPC (.arrow, .feather, .ipc, "
    ".arrows)"
)


def format_of(path: str) -> FileFormat:
    """The format of a file. Raises ValueError if no format has its suffix."""
    form = _format(path)
    if form is None:
        raise ValueError(f"{path} has no suffix of a format that is read: {READ}. Rename it, or convert it.")
    return form


def format_of_all(paths: list[str]) -> FileFormat:
    """The common format of files.

    Raises:
      ValueError: the files have different formats, or a suffix is unknown.
    """
    first = format_of(paths[0])
    for path in paths[1:]:
        if (form := format_of(path)) is not first:
            raise ValueError(
                f"files of one data set must be of one format; {paths[0]} is {first.name}, {path} is {form.name}. "
                f"Name those of one, as {os.path.join(os.path.dirname(path), '*' + first.suffixes[0])!r}."
            )
    return first


def _format(path: str) -> FileFormat | None:
    name = path.lower()
    return next((form for form in FORMATS if name.endswith(form.suffixes)), None)
