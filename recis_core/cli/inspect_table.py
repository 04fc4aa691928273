"""What `recis data inspect` shows on a terminal: a table of columns, and the first rows."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDTH = 28  # letters of a value
LONG = 10**9  # integers from here on are shown by four digits
HEADS = (
    "column",
    "type",
    "read as",
    "null/empty",
    "distinct",
    "most frequent",
    "length p50/p99/max",
    "min … mean … max",
)


def show(found: dict[str, Any], console: Console) -> None:
    """found: Profile.as_json()."""
    files = list(found["files"])
    more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
    counted = "" if found["rows_counted"] == found["rows"] else f"; of the first {found['rows_counted']:,}:"
    console.print(f"{found['rows']:,} rows in {files[0]}{more}{counted}", highlight=False, markup=False, soft_wrap=True)
    console.print(_columns(found))
    for name, column in found["columns"].items():
        if "note" in column:
            console.print(f"{name}: {column['note']}", highlight=False, markup=False, soft_wrap=True)
    if found["sample"]:
        console.print(_rows(found))


def _columns(found: dict[str, Any]) -> Table:
    table = Table(title="columns", title_justify="left", box=None, pad_edge=False)
    for head in HEADS:
        table.add_column(head, justify="right" if head in HEADS[3:5] else "left", overflow="fold")
    for name, column in found["columns"].items():
        table.add_row(*map(escape, (name, ", ".join(column["types"]), column["read_as"], *facts(column))))
    return table


def facts(column: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """Rates of nulls and of empty rows, distinct values, the most frequent, lengths, range; "" where there is none."""
    if "rows" not in column:
        return "", "", "", "", ""
    distinct = f"{column['distinct']:,}" if "distinct" in column else ""
    most = column.get("top") or [None]
    top = "" if most[0] is None else f"{clipped(most[0]['value'])} {most[0]['share']:.1%}"
    lengths = column.get("lengths")
    counted = "" if lengths is None else f"{lengths['median']}/{lengths['p99']}/{lengths['max']}"
    ends = [column.get(key) for key in ("min", "mean", "max")]
    return (
        f"{column['null_rate']:.1%}" + (f"/{column['empty_rate']:.1%}" if "empty_rate" in column else ""),
        distinct,
        top,
        counted,
        " … ".join(number(end) for end in ends if end is not None),
    )


def number(value: Any) -> str:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= LONG):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else clipped(value)


def clipped(value: Any) -> str:
    text = "null" if value is None else str(value).replace("\n", "⏎")
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _rows(found: dict[str, Any]) -> Table:
    table = Table(title="first rows", title_justify="left", box=None, pad_edge=False, show_header=False)
    for name in found["sample"][0]:
        table.add_row(escape(name), *(escape(clipped(row.get(name))) for row in found["sample"]))
    return table
