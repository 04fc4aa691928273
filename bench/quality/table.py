"""The table of figures in docs/models.md, between two markers."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

from recis_core.bench.quality.records import Record

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- python -m bench models --write -->\n", "<!-- end of models -->\n"
COLUMNS = ("model", "data", "figure", "reached", "the truth's", "peer", "peer's", "goal", "s", "peer's s", "seeds")


def text(records: list[Record]) -> str:
    """A line a model and figure: means over seeds, and half the range of what was reached."""
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    by_model = groupby(records, key=lambda each: each["model"])
    return head + "".join(_line(figure, of) for _, group in by_model for of in [list(group)] for figure in _figures(of))


def reaches(records: list[Record], figure: str) -> bool:
    """Whether one model's mean over seeds is as near to the truth's and the peer's as its goals say."""
    return all(_mean(records, "figures", figure) >= bound for bound in _bounds(records, figure))


def write(records: list[Record]) -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + text(records) + END + rest.split(END)[1])


def committed() -> str:
    return PAGE.read_text().split(BEGIN)[1].split(END)[0]


def _figures(records: list[Record]) -> list[str]:
    return list(records[0]["figures"])


def _line(figure: str, records: list[Record]) -> str:
    of = records[0]
    reached = [each["figures"][figure] for each in records]
    cells = (
        of["model"], of["data"], figure, _spread(reached),
        _number(_mean(records, "best", figure)), of["peer"] or "", _number(_mean(records, "peer_figures", figure)),
        _goal(records, figure), _seconds(records, "seconds"), _seconds(records, "peer_seconds"),
        ", ".join(str(each["seed"]) for each in records),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _goal(records: list[Record], figure: str) -> str:
    words = [f"{name} − {records[0][key][figure]:g}" for key, name in
             (("below_best", "truth"), ("below_peer", "peer")) if figure in records[0][key]]  # fmt: skip
    if not words:
        return ""
    return ", ".join(words) + (": reached" if reaches(records, figure) else ": **missed**")


def _bounds(records: list[Record], figure: str) -> list[float]:
    goals = [(records[0]["below_best"], "best"), (records[0]["below_peer"], "peer_figures")]
    return [_mean(records, of, figure) - below[figure] for below, of in goals if figure in below]


def _mean(records: list[Record], key: str, figure: str) -> Any:
    found = [each[key][figure] for each in records if figure in each[key]]
    return mean(found) if found else None


def _spread(reached: list[float]) -> str:
    half = f" ± {(max(reached) - min(reached)) / 2:.4f}" if len(reached) > 1 else ""
    return f"{mean(reached):.4f}{half}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _seconds(records: list[Record], key: str) -> str:
    found = [each[key] for each in records if each[key] is not None]
    return f"{mean(found):.0f}" if found else ""
