"""What `recis data inspect --html` writes: one page that needs no network, plots as inline SVG, all text escaped."""

from __future__ import annotations

from html import escape
from typing import Any

from recis_core.cli.inspect_table import HEADS, clipped, facts

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; margin: .6em 0 } td, th { text-align: left; padding: .15em .8em .15em 0; vertical-align: top }
th { border-bottom: 1px solid #999 } section { border-top: 1px solid #ddd; margin-top: 1.2em } code { color: #555 }
figure { display: inline-block; margin: .4em 2em .4em 0; vertical-align: top } figcaption { color: #555 } .note { color: #b00 }
rect { fill: #4878a8 } svg text { font: 11px system-ui, sans-serif; fill: #222 }
.scroll { overflow-x: auto }
"""
WIDTH, BAR, LABEL = 470, 16, 190  # of a plot, a bar, and the text beside it, in pixels
BARS = 24  # at most


def page(found: dict[str, Any], plots: dict[str, dict[str, list[tuple[str, int]]]]) -> str:
    """found: Profile.as_json(). plots: by column {title: bars}, a bar being (text, count)."""
    title = f"{found['rows']:,} rows in {len(found['files']):,} files"
    parts = [f"<h1>{escape(title)}</h1>", _counted(found), _table([HEADS], _overview(found))]
    parts += [_section(name, column, plots.get(name, {})) for name, column in found["columns"].items()]
    parts += ["<section><h2>first rows</h2>", _sample(found["sample"]), "</section>"]
    parts += ["<section><h2>files</h2>", _table([("file", "rows")], [(f, f"{n:,}") for f, n in found["files"].items()])]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n'
        + "\n".join(parts)
        + "\n</section></body></html>\n"
    )


def _counted(found: dict[str, Any]) -> str:
    if found["rows_counted"] == found["rows"]:
        return "<p>Distinct values are an estimate (HyperLogLog, standard error 0.8 %).</p>"
    return f"<p>Counts are of the first {found['rows_counted']:,} rows. Distinct values are an estimate.</p>"


def _overview(found: dict[str, Any]) -> list[tuple[str, ...]]:
    columns = found["columns"].items()
    return [(name, ", ".join(column["types"]), column["read_as"], *facts(column)) for name, column in columns]


def _table(heads: list[tuple[str, ...]], rows: list[tuple[str, ...]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head) for head in heads]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return '<div class="scroll"><table>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"


def _section(name: str, column: dict[str, Any], plots: dict[str, list[tuple[str, int]]]) -> str:
    kinds = ", ".join(column["types"])
    note = f'<p class="note">{escape(column["note"])}</p>' if "note" in column else ""
    figures = "".join(_figure(title, bars) for title, bars in plots.items() if bars)
    return f"<section><h2>{escape(name)} <code>{escape(kinds)}</code></h2>{note}{figures}</section>"


def _figure(title: str, bars: list[tuple[str, int]]) -> str:
    bars, most = bars[:BARS], max(count for _, count in bars)
    lines = []
    for n, (text, count) in enumerate(bars):
        width, y = max(1, round((WIDTH - LABEL - 90) * count / max(1, most))), n * (BAR + 4)
        lines.append(f'<text x="{LABEL - 6}" y="{y + 12}" text-anchor="end">{escape(clipped(text))}</text>')
        lines.append(f'<rect x="{LABEL}" y="{y}" width="{width}" height="{BAR}"></rect>')
        lines.append(f'<text x="{LABEL + width + 6}" y="{y + 12}">{count:,}</text>')
    size = f'width="{WIDTH}" height="{len(bars) * (BAR + 4)}"'
    svg = f'<svg {size} role="img" aria-label="{escape(title)}">{"".join(lines)}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def _sample(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0]) if rows else []
    return _table(
        [("", *(str(n) for n in range(len(rows))))],
        [(name, *(clipped(row.get(name)) for row in rows)) for name in names],
    )
