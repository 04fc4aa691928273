"""recis ckpt show: what one checkpoint holds."""

from __future__ import annotations

import json

import tyro
from pydantic.dataclasses import dataclass

from recis_core.cli.ckpt_listing import counted, facts_of, say, show, sized
from recis_core.cli.flags import plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.serialize import open_checkpoint


@plain_errors
@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """Show tables, parts and origin of a checkpoint. Its manifest is read and checked, rows are not."""

    path: tyro.conf.Positional[str]
    """A checkpoint, or a directory of them, of which the latest is shown; or a URL."""
    json: bool = False
    """Print one JSON object."""


def run(argv: list[str]) -> int:
    config = read_flags(ShowConfig, argv, "recis ckpt show")
    facts = facts_of(open_checkpoint(config.path))
    if config.json:
        print(json.dumps(facts))
        return 0
    base = "" if facts["base"] is None else f", with what changed since step {facts['base']}"
    say(f"{facts['path']}: step {facts['step']:,}, {facts['kind']}{base}, {sized(facts['bytes'])}")
    rows = [
        (name, counted(t["rows"]), t["dim"], t["dtype"], ", ".join(t["slots"]), t["files"], sized(t["bytes"]))
        for name, t in facts["tables"].items()
    ]
    show("tables", ("table", "rows", "dim", "dtype", "slots", "files", "bytes"), rows)
    show("parts", ("part", "bytes"), [(name, sized(size)) for name, size in facts["parts"].items()])
    for key, value in facts["environment"].items():
        if value is None:
            continue
        told = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        say(f"{key}: {told}")
    return 0
