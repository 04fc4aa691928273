"""recis ckpt ls: the checkpoints of a directory."""

from __future__ import annotations

import json
from typing import Any

import tyro
from pydantic.dataclasses import dataclass

from recis_core.cli.ckpt_listing import checkpoints_at, counted, facts_of, show, sized
from recis_core.cli.flags import plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.errors import RecisError
from recis_core.serialize import Checkpoint


@plain_errors
@dataclass(frozen=True, kw_only=True)
class LsConfig:
    """List the checkpoints of a directory, the newest last. Manifests are read and checked, rows are not."""

    path: tyro.conf.Positional[str]
    """A directory of checkpoints, or its URL."""
    json: bool = False
    """Print one JSON object for each checkpoint."""


def run(argv: list[str]) -> int:
    config = read_flags(LsConfig, argv, "recis ckpt ls")
    found = [_line(step, each) for step, each in checkpoints_at(config.path).items()]
    if config.json:
        for line in found:
            print(json.dumps(line))
        return 0
    heads = ("step", "kind", "tables", "rows", "bytes", "saved", "fault")
    show(config.path, heads, [_cells(line) for line in found])
    return 0


def _line(step: int, found: Checkpoint | RecisError) -> dict[str, Any]:
    if isinstance(found, RecisError):
        return {"step": step, "kind": None, "base": None, "tables": None, "rows": None, "bytes": None, "saved": None,
                "fault": str(found)}  # fmt: skip
    facts = facts_of(found)
    rows = [table["rows"] for table in facts["tables"].values()]
    return {
        **{key: facts[key] for key in ("step", "kind", "base")},
        "tables": len(facts["tables"]),
        "rows": None if None in rows else sum(rows),
        "bytes": facts["bytes"],
        "saved": facts["environment"].get("saved"),
        "fault": None,
    }


def _cells(line: dict[str, Any]) -> list[Any]:
    kind = line["kind"] if line["base"] is None else f"{line['kind']} of {line['base']}"
    return [
        line["step"],
        kind,
        line["tables"],
        counted(line["rows"]),
        sized(line["bytes"]),
        line["saved"],
        line["fault"],
    ]
