"""recis data: look at files, convert them, write a synthetic click log."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from recis_core.cli.aside import beside
from recis_core.cli.flags import plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.cli.subcommand import subcommand

COMMANDS = ("inspect", "convert", "synth")
USAGE = """usage: recis data {inspect,convert,synth} ...

  recis data inspect DATA             columns, nulls, distinct and frequent values, lengths, ranges, first rows
  recis data convert SOURCE OUT       files into another format, fewer columns, other sizes, sorted
  recis data synth --preset NAME --rows N --out FILE.parquet    a synthetic click log

Each has --help."""


@plain_errors
@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """Write samples of a planted-truth click log: label, p (the true probability), and a list of ids for each field."""

    preset: str
    """tiny, small, criteo-shape, drift or adversarial."""
    rows: Annotated[int, Field(ge=1)]
    """Samples to write."""
    out: str
    """A .parquet or .orc file."""
    seed: int = 0


def run(argv: list[str]) -> int:
    asked = subcommand("recis data", COMMANDS, USAGE, argv)
    if isinstance(asked, int):
        return asked
    command, rest = asked
    if command != "synth":
        status: int = import_module(f"recis_core.cli.data_{command}").run(rest)
        return status
    synth(read_flags(SynthConfig, rest, "recis data synth"))
    return 0


def synth(config: SynthConfig) -> None:
    from recis_core.io import SyntheticClicks, write_orc, write_parquet

    writers: dict[str, Any] = {".parquet": write_parquet, ".orc": write_orc}
    suffix = next((s for s in writers if config.out.endswith(s)), None)
    if suffix is None:
        raise ValueError(f"--out must end in {' or '.join(writers)}; got {config.out}.")
    if not Path(config.out).parent.is_dir():
        raise ValueError(f"--out {config.out}: there is no directory {Path(config.out).parent}. Make it first.")
    with beside(config.out) as path:
        writers[suffix](SyntheticClicks(config.preset, config.seed), path, config.rows)
        os.replace(path, config.out)
    say = Console().print
    say(f"{config.rows:,} rows of {config.preset} in {config.out}", highlight=False, soft_wrap=True)
    say(f"recis train --data {config.out} --label label --truth p trains on it", highlight=False, soft_wrap=True)
