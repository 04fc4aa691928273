"""recis ckpt export: one table as a file of another format."""

from __future__ import annotations

import json

import tyro
from pydantic.dataclasses import dataclass

from recis_core.cli import stopping
from recis_core.cli.aside import beside, local_of, put_out
from recis_core.cli.ckpt_listing import say
from recis_core.cli.ckpt_sources import source_at
from recis_core.cli.data_convert import check_absent
from recis_core.cli.flags import FlagError, plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.cli.screen import rows_shown
from recis_core.serialize import StoredTable, TableSource
from recis_core.serialize.table_export import ENDINGS, export_table


@plain_errors
@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write one table of ids and vectors, whole or not at all: Parquet with columns id and vector, or arrays ids and rows."""

    path: tyro.conf.Positional[str]
    """A checkpoint, or a directory of them, of which the latest is read; or a URL, or a checkpoint of RecIS or TorchRec."""
    out: tyro.conf.Positional[str]
    """The file to write, a path or a URL: .parquet, .npz or .safetensors."""
    table: str | None = None
    """Which table, where there are several."""
    slots: bool = False
    """Write the optimizer's slots, too."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if not self.out.endswith(ENDINGS):
            raise ValueError(f"{self.out} must end in {', '.join(ENDINGS)}.")


def run(argv: list[str]) -> int:
    config = read_flags(ExportConfig, argv, "recis ckpt export")
    check_absent(config.out)
    stopping.current().done = "nothing was written"
    source = source_at(config.path)
    table = _table(source, config.table)
    slots = table.slots if config.slots else ()
    with beside(local_of(config.out)) as aside, rows_shown("exporting", not config.json) as show_rows:
        rows = export_table(table, aside, slots, show_rows)
        put_out(aside, config.out)
    if config.json:
        print(
            json.dumps({"out": config.out, "table": table.name, "rows": rows, "dim": table.dim, "slots": list(slots)})
        )
    else:
        say(f"{rows:,} rows of {table.name} in {config.out}")
    return 0


def _table(source: TableSource, name: str | None) -> StoredTable:
    there = ", ".join(sorted(source.tables)) or "none"
    if name is None and len(source.tables) != 1:
        raise FlagError(f"{source.name} has tables {there}; --table says which one is exported.")
    if name is not None and name not in source.tables:
        raise FlagError(f"--table {name}: {source.name} has no such table; it has {there}.")
    return source.tables[name] if name is not None else next(iter(source.tables.values()))
