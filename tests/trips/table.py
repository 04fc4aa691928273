"""The table of figures in docs/architecture.md, between two markers."""

from __future__ import annotations

import re
from pathlib import Path

from tests.trips.cases import Step
from tests.trips.goals import GOALS

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
BEGIN, END = "<!-- python -m tests.trips --write -->\n", "<!-- end of trips -->\n"
PHASES = ("forward", "backward", "step")


def text(steps: dict[str, Step]) -> str:
    """A row a case, in it files / entries of each phase, and its goal."""
    head = f"| files / entries | {' | '.join(PHASES)} |\n|{'---|' * (1 + len(PHASES))}\n"
    return head + "".join(row(name, step) for name, step in steps.items())


def row(name: str, step: Step) -> str:
    cells = [f"{step[p].files} / {step[p].entries}{goal(name, p)}" for p in PHASES]
    return f"| {name} | {' | '.join(cells)} |\n"


def goal(name: str, phase: str) -> str:
    wanted = GOALS.get(name, {}).get(phase)
    return "" if wanted is None else f" (goal {wanted})"


def write(steps: dict[str, Step]) -> None:
    """Rows of these cases; those of others stay."""
    before, rest = PAGE.read_text().split(BEGIN)
    old, after = rest.split(END)
    rows = rows_of(old) | rows_of(text(steps))
    PAGE.write_text(before + BEGIN + text({}) + "".join(rows.values()) + END + after)


def rows_of(table: str) -> dict[str, str]:
    """{case: its line}."""
    return {m[1]: m[0] for m in re.finditer(r"^\| ([^|]+) \|(?: \d[^|]*\|){3}\n", table, re.MULTILINE)}


def committed() -> dict[str, str]:
    return rows_of(PAGE.read_text().split(BEGIN)[1].split(END)[0])
