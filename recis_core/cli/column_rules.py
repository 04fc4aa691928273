"""Rules of single columns, as flags give them: COLUMN=RULE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from recis_core.cli.flags import flag
from recis_core.io.time_units import NANOSECONDS

NULL = re.compile(r"(.+)=(?:(drop|error)|default\((.*)\))", re.DOTALL)
Role = Literal["ids", "text", "dense", "floats"]
"""What a column is read as. text: ids that are hashes of text, or text itself. floats: as they are, in rows of any length."""
NULLS = "COLUMN=drop, COLUMN=error or COLUMN=default(VALUE)"


def units_of(flags: Sequence[str]) -> dict[str, str]:
    """{column: unit} of --time-units. Raises ValueError, naming the flag."""
    found: dict[str, str] = {}
    for text in flags:
        column, _, unit = text.rpartition("=")
        if not column or unit not in NANOSECONDS:
            raise ValueError(f"--time-units must read COLUMN=UNIT, a unit of {', '.join(NANOSECONDS)}; got {text!r}.")
        _put(found, "time_units", column, unit)
    return found


def nulls_of(flags: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """{column: (drop, error or default, the default's text)} of --nulls. Raises ValueError, naming the flag."""
    found: dict[str, tuple[str, str | None]] = {}
    for text in flags:
        read = NULL.fullmatch(text)
        if read is None:
            raise ValueError(f"--nulls must read {NULLS}; got {text!r}.")
        _put(found, "nulls", read[1], (read[2] or "default", read[3]))
    return found


def weights_of(flags: Sequence[str]) -> dict[str, str]:
    """{column of ids: column of weights} of --weight-columns. Raises ValueError, naming the flag."""
    found: dict[str, str] = {}
    for text in flags:
        column, _, weight = text.partition("=")
        if not column or not weight or column == weight:
            raise ValueError(f"--weight-columns must read COLUMN=WEIGHTS, two columns; got {text!r}.")
        if weight in found.values():
            raise ValueError(f"--weight-columns gives {weight!r} to two columns.")
        _put(found, "weight_columns", column, weight)
    return found


def _put(found: dict[str, Any], keyword: str, column: str, rule: Any) -> None:
    if column in found:
        raise ValueError(f"{flag(keyword)} names {column!r} twice.")
    found[column] = rule


def reader_rule(column: str, role: Role, rule: tuple[str, str | None]) -> dict[str, Any]:
    """What a dataset's feature takes for it. Raises ValueError, naming the flag."""
    way, text = rule
    if way == "drop":
        if role == "dense":
            raise ValueError(
                f"--nulls {column}=drop: a dense input has a value in each row; give error or default(NUMBER)."
            )
        return {}
    return {"null": "error"} if way == "error" else {"default": _default(column, role, str(text))}


def _default(column: str, role: Role, text: str) -> int | float | str:
    kind, wanted = {"ids": (int, "a whole number"), "text": (str, "text")}.get(role, (float, "a number"))
    try:
        value: int | float | str = kind(text)
        return value
    except ValueError:
        raise ValueError(
            f"--nulls {column}=default({text}): the default must be {wanted}, as the column's values are."
        ) from None
