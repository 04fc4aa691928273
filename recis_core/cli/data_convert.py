"""recis data convert: files into files of any format."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli import stopping
from recis_core.cli.aside import beside, local_of, put_out
from recis_core.cli.flags import flag, plain_errors
from recis_core.cli.outset import check_writable
from recis_core.cli.read_flags import read_flags
from recis_core.io.file_systems import ThisMachine
from recis_core.io.formats import SUFFIXES
from recis_core.io.remote_output import check_url_is_free
from recis_core.planning.quantity import parse_bytes
from recis_core.urls import is_url

ENDINGS = tuple(end.removeprefix(".") for end in SUFFIXES)


@plain_errors
@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Copy files into another format: the same rows, whole or not at all. Maps, structs and lists of lists are copied, too."""

    source: tyro.conf.Positional[str]
    """Path, folder, glob or URL of Parquet, ORC, CSV or Arrow IPC files."""
    out: tyro.conf.Positional[str]
    """The file to write, its format by its ending; or a folder, with --rows-per-file, --files or --to. A path or a URL."""
    to: str | None = None
    """The ending of files in a folder: parquet, orc, csv, csv.gz, tsv, arrow, arrows (a stream), feather …"""
    columns: tuple[str, ...] = ()
    """Columns to write, in this order. Default: all."""
    rows_per_file: Annotated[int | None, Field(ge=1)] = None
    """Write a folder of files of so many rows."""
    files: Annotated[int | None, Field(ge=1)] = None
    """Write a folder of so many files of equal sizes."""
    sort_by: tuple[str, ...] = ()
    """Columns to sort all rows by, ascending, nulls last; equal rows keep their order."""
    cluster_by: tuple[str, ...] = ()
    """As --sort-by, and rows that are equal in these columns are in one file, which may then be larger."""
    memory: str = "1GB"
    """For sorting: about so much of the rows is held in memory, and the rest in runs beside the output; at least a row group,
    or a CSV file."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if not is_url(self.out):
            object.__setattr__(self, "out", ThisMachine().named(self.out))  # of file:///x the path /x
        if self.files is not None and self.rows_per_file is not None:
            raise ValueError("give --files or --rows-per-file, not both.")
        if self.sort_by and self.cluster_by:
            raise ValueError("give --sort-by or --cluster-by, not both.")
        if self.to is not None and self.to not in ENDINGS:
            raise ValueError(f"--to must be one of {', '.join(ENDINGS)}; got {self.to!r}.")
        if self.ending is None:
            raise ValueError(
                f"{self.out} must end in {', '.join(SUFFIXES)}; or give --to, and a folder of files is written."
            )
        if not self.is_folder and self.to is not None and not self.out.lower().endswith(f".{self.to}"):
            raise ValueError(f"{self.out} does not end in .{self.to}; leave --to out, or name a folder.")
        try:
            parse_bytes(self.memory)
        except ValueError:
            raise ValueError(f"--memory must be a size such as 512MB, 40GiB or 1e9; got {self.memory!r}.") from None

    @property
    def ending(self) -> str | None:
        """Of the files to write."""
        if self.to is not None:
            return f".{self.to}"
        fits = [end for end in SUFFIXES if self.out.lower().rstrip("/").endswith(end)]
        return max(fits, key=len, default=None)

    @property
    def local(self) -> str:
        return local_of(self.out.rstrip("/"))

    @property
    def is_folder(self) -> bool:
        named = self.out.lower().endswith(SUFFIXES)
        return self.files is not None or self.rows_per_file is not None or not named


def run(argv: list[str]) -> int:
    config = read_flags(ConvertConfig, argv, "recis data convert")
    check_absent(config.out)
    stopping.current().done = "nothing was written"
    said = convert(config)
    print(
        json.dumps(said) if config.json else f"{said['rows']:,} rows in {config.out}, {said['files']:,} files",
        flush=True,
    )
    return 0


def check_absent(out: str) -> None:
    """Raises ValueError or OSError where nothing can be written."""
    if is_url(out):
        check_url_is_free(out)
        check_writable("out", tempfile.gettempdir())
        return
    path = Path(out)
    if os.path.lexists(path):
        raise ValueError(f"{out} is there already, and is not replaced. Name another, or remove it.")
    if not path.parent.is_dir():
        raise ValueError(f"{out}: there is no directory {path.parent}. Make it first.")
    check_writable("out", str(path.parent))


def convert(config: ConvertConfig) -> dict[str, object]:
    """{"rows": …, "files": …, "out": …, "columns": …}"""
    from recis_core.cli.screen import rows_shown
    from recis_core.io.external_sort import check_sortable
    from recis_core.io.file_copy import Copy, folder_names
    from recis_core.io.whole_files import open_whole

    source = open_whole(config.source, config.columns)
    order = config.cluster_by or config.sort_by
    check_sortable(source.schema, order, flag("cluster_by" if config.cluster_by else "sort_by"))
    copy = Copy(
        str(config.ending), _limit(config, source.files.all_rows), order, bool(config.cluster_by), _memory(config)
    )
    shown = rows_shown("copying", not config.json)
    with _aside(config) as aside, beside(f"{config.local}.runs") as scratch, shown as show_rows:
        scratch.mkdir()
        names = folder_names(str(aside), copy.ending) if config.is_folder else lambda number: str(aside)
        files = copy.write(source, names, str(scratch), show_rows)
        put_out(aside, config.out)
    return {"rows": source.files.all_rows, "files": len(files), "out": config.out, "columns": len(source.schema)}


def _limit(config: ConvertConfig, rows: int) -> int | None:
    if config.files is not None:
        return max(1, -(-rows // config.files))
    return config.rows_per_file


def _memory(config: ConvertConfig) -> int:
    return parse_bytes(config.memory)


@contextmanager
def _aside(config: ConvertConfig) -> Iterator[Path]:
    with beside(config.local) as aside:
        if config.is_folder:
            aside.mkdir()
        yield aside
