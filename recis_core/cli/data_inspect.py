"""recis data inspect: what files hold."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from recis_core.cli import stopping
from recis_core.cli.aside import beside, put
from recis_core.cli.flags import flag, plain_errors
from recis_core.cli.read_flags import read_flags

if TYPE_CHECKING:
    from recis_core.io.profile import Profile

PIPED = 160  # letters of a line where no terminal says how many it shows


@plain_errors
@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Count files in one pass: columns and types, nulls, distinct and frequent values, lengths of lists, ranges, first rows."""

    data: tyro.conf.Positional[str]
    """Path, folder, glob or URL of Parquet, ORC, CSV or Arrow IPC files."""
    rows: Annotated[int | None, Field(ge=1)] = None
    """Count the first rows alone. Default: all."""
    sample: Annotated[int, Field(ge=0)] = 5
    """First rows to show."""
    json: bool = False
    """Print one JSON object."""
    html: str | None = None
    """Write a page with plots, which needs no network, to this file."""
    write_features: str | None = None
    """Write the features that recis train infers to this .yaml file, to begin from."""
    skip: tuple[str, ...] = ()
    """With --write-features: columns that are no features, such as the label."""

    def __post_init__(self) -> None:
        for keyword, endings in (("html", (".html", ".htm")), ("write_features", (".yaml", ".yml"))):
            value = getattr(self, keyword)
            if value is not None and not value.endswith(endings):
                raise ValueError(f"{flag(keyword)} must end in {' or '.join(endings)}; got {value}.")
        if self.skip and self.write_features is None:
            raise ValueError("--skip goes with --write-features.")


def run(argv: list[str]) -> int:
    from recis_core.cli.inspect_table import show
    from recis_core.cli.screen import rows_shown
    from recis_core.io.profile import profile_of

    config = read_flags(InspectConfig, argv, "recis data inspect")
    outputs = {"html": config.html, "write_features": config.write_features}
    for keyword, out in outputs.items():
        if out is not None:
            _check_absent(keyword, out)
    stopping.current().done = "nothing was written"
    with rows_shown("counting", not config.json) as show_rows:
        found = profile_of(config.data, config.rows, config.sample, show_rows)
    if config.write_features is not None:
        _write_features(found, config.write_features, config.skip)
    if config.html is not None:
        _write_page(found, config.html)
    if config.json:
        print(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        show(found.as_json(), Console() if sys.stdout.isatty() else Console(width=PIPED))
    return 0


def _check_absent(keyword: str, out: str) -> None:
    if os.path.lexists(out):
        raise ValueError(f"{flag(keyword)} {out} is there already, and is not replaced. Name another, or remove it.")
    if not Path(out).parent.is_dir():
        raise ValueError(f"{flag(keyword)} {out}: there is no directory {Path(out).parent}. Make it first.")


def _write_page(found: Profile, out: str) -> None:
    from recis_core.cli.inspect_page import page

    plots = {name: column.plots() for name, column in found.columns.items()}
    with beside(out) as aside:
        aside.write_text(page(found.as_json(), plots), encoding="utf-8")
        put(aside, Path(out))


def _write_features(found: Profile, out: str, skip: tuple[str, ...]) -> None:
    from recis_core.cli.inferred_features import inferred

    for name in skip:
        if name not in found.names:
            raise ValueError(f"--skip names {name!r}, which is no column: {', '.join(found.names)}.")
    with beside(out) as aside:
        inferred(found, skip).to_yaml(aside)
        put(aside, Path(out))
