"""python -m bench table FILE: rows of `bench step` as a Markdown table, the newest run of each size.

| ids, dim, optimizer | torch EmbeddingBag | numba | jax |
| zipf, 16, adam      | 12.0 ms            | 5.1 ms, 2.3× | … |
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic.dataclasses import dataclass

PEER = "torch "  # of plain torch's competitors, by name
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Rows of `bench step` as a Markdown table."""

    file: Annotated[str, tyro.conf.Positional]
    """JSON Lines that `python -m bench step --out` wrote."""
    ids: tuple[str, ...] = ()
    """These distributions alone. Default: all."""
    dims: tuple[int, ...] = ()
    """These alone. Default: all."""


def run(argv: list[str]) -> int:
    config = tyro.cli(TableConfig, args=argv, prog="python -m bench table")
    print(markdown(chosen(Path(config.file), config.ids, config.dims)))
    return 0


def chosen(file: Path, ids: tuple[str, ...] = (), dims: tuple[int, ...] = ()) -> list[Row]:
    """The file's rows of these distributions and dims."""
    rows: list[Row] = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        row for row in rows if row.get("ids") in (ids or (row.get("ids"),)) and row["dim"] in (dims or (row["dim"],))
    ]


def markdown(rows: list[Row]) -> str:
    """A line for each case, a column for each competitor: median ms of a step, and how many times plain torch's speed."""
    cases: dict[tuple[Any, ...], dict[str, Row]] = {}
    steps = [row for row in rows if row["bench"] == "step"]
    for row in steps:
        cases.setdefault((row["ids"], row["dim"], row["optimizer"]), {})[_column(row)] = row
    columns = list(dict.fromkeys(column for found in cases.values() for column in found))
    lines = [f"| ids, dim, optimizer | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for case, found in cases.items():
        cells = (_cell(found.get(column)) for column in columns)
        lines.append(f"| {', '.join(map(str, case))} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _where(steps[-1])])


def _column(row: Row) -> str:
    name: str = row["name"]
    return "plain torch" if name.startswith(PEER) else name.removeprefix("recis ")


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    ratio = "" if _column(row) == "plain torch" else f", {row['speedup']:.1f}×"
    return f"{row['step_ms']:.1f} ms{ratio}"


def _where(row: Row) -> str:
    return (
        f"{row['n']:,} ids in {row['bags']:,} bags over {row['vocabulary']:,} rows; {row['cores']} cores of {row['cpu']}, "
        f"torch {row['torch']}, load {row['load']:.1f}, commit {row['commit']}."
    )
