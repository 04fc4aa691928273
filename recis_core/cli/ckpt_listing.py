"""Facts of checkpoints as JSON values, and tables of them on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recis_core.backends.errors import RecisError
from recis_core.planning.units import in_bytes, in_counts
from recis_core.serialize import Checkpoint, StoredTable
from recis_core.serialize.imports.state import source_of
from recis_core.serialize.places import place_of_step, steps_in
from recis_core.serialize.store_path import place_of

PIPED = 160  # letters of a line where no terminal says how many it shows


def checkpoints_at(path: str) -> dict[int, Checkpoint | RecisError]:
    """{step: checkpoint, or why it cannot be opened} of a directory of checkpoints.

    Raises:
      FileNotFoundError: there is none.
    """
    place = place_of(path)
    steps = steps_in(place)
    if not steps:
        raise FileNotFoundError(f"{path} holds no checkpoint; wanted step-*/manifest.json, as --save writes it.")
    return {step: _opened(place, step) for step in steps}


def _opened(place: Any, step: int) -> Checkpoint | RecisError:
    try:
        return Checkpoint(place_of_step(place, step))
    except RecisError as error:
        return error


def facts_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What its manifest says, as JSON values. Raises CorruptCheckpoint."""
    tables = {name: _table(checkpoint, name, table) for name, table in source_of(checkpoint).tables.items()}
    sizes = {name: checkpoint.manifest.parts[name].hashes.bytes for name in checkpoint.manifest.parts}
    base = checkpoint.base
    return {
        "path": str(checkpoint.path),
        "step": checkpoint.step,
        "kind": checkpoint.kind,
        "base": None if base is None else base.step,
        "bytes": sum(sizes.values()),
        "tables": tables,
        "parts": {name: sizes[name] for name in checkpoint.parts},
        "environment": dict(checkpoint.environment),
    }


def _table(checkpoint: Checkpoint, name: str, table: StoredTable) -> dict[str, Any]:
    """rows: null where only reading them tells; of a delta those that came or changed."""
    entry = checkpoint.manifest.head.tables.get(name)
    files = [] if entry is None else [part for group in entry.files for part in group]
    info = checkpoint.tables.get(name)
    return {
        "rows": table.rows if info is None else info.rows,
        "dim": table.dim,
        "dtype": str(table.dtype).removeprefix("torch."),
        "slots": list(table.slots),
        "files": len(files) if info is not None else len(table.pieces),
        "bytes": sum(checkpoint.manifest.parts[part].hashes.bytes for part in files) if files else None,
        "whole": info is None or info.whole,
    }


def console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=PIPED)


def say(text: str) -> None:
    console().print(text, highlight=False, markup=False, soft_wrap=True)


def show(title: str, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table; columns after the first are numbers or words, to the right. None is shown as nothing."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    console().print(table)


def counted(value: int | None) -> str | None:
    return None if value is None else in_counts(value)


def sized(value: int | None) -> str | None:
    return None if value is None else in_bytes(value)
