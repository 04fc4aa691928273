"""Progress in words that fit a width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from recis_core.hooks.step_sums import LoggedSteps

GAP = "  "


class Part(NamedTuple):
    """rank: the lower it is, the longer the part stays as the width shrinks."""

    rank: int
    text: str


def fitted(parts: list[Part], width: int) -> str:
    """Parts side by side, as many as fit, those of low rank first; in the order given."""
    kept: list[Part] = []
    for part in sorted(parts, key=lambda part: part.rank):
        if len(GAP.join(each.text for each in [*kept, part])) > width:
            break
        kept.append(part)
    return GAP.join(part.text for part in parts if part in kept)


def clock(seconds: float) -> str:
    """0:00:07, or 3 d 4:05:06."""
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    return (f"{days} d " if days else "") + f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"


def number(value: float) -> str:
    """Four decimals, or four digits where those would hide it."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


def named_numbers(numbers: Mapping[str, float]) -> list[str]:
    return [f"{name} {number(value)}" for name, value in numbers.items()]


def step_line(logged: LoggedSteps) -> str:
    """The step, losses, metrics and rows/s."""
    said = named_numbers({**logged.losses, **logged.metrics})
    return GAP.join([f"step {logged.step}", *said, f"{logged.rows_per_s:,.0f} rows/s"])


def evaluation_line(metrics: Mapping[str, float]) -> str:
    return GAP.join(["evaluation", *named_numbers(metrics)])


def step_parts(logged: LoggedSteps, last_step: int | None) -> list[Part]:
    """As step_line, for a line that shrinks; with the time left up to `last_step`, where that is known."""
    of = "" if last_step is None else f"/{last_step:,}"
    said = named_numbers({**logged.losses, **logged.metrics})
    parts = [Part(3, f"step {logged.step:,}{of}"), Part(1, f"{logged.rows_per_s:,.0f} rows/s")]
    parts += [Part(2 if i == 0 else 4 + i, text) for i, text in enumerate(said)]
    if last_step is not None and logged.steps_per_s:
        parts.append(Part(4, f"left {clock(max(0, last_step - logged.step) / logged.steps_per_s)}"))
    return parts
