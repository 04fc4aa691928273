"""A plan file: the sharding of each table. `recis plan --out` writes the file, training reads it.

user: {sharding: row, hot_rows: 1000}
country: {sharding: replicated}
shop: {sharding: table, owner: 3}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recis_core.options.sharding import Sharding
from recis_core.options.yaml_file import read_yaml

KEYS = ("sharding", "owner", "hot_rows")


def write_plan(path: str | Path, shardings: Mapping[str, Sharding], comment: str = "") -> None:
    """Write the shardings by table name, one line for each, in the order given; `comment` comes first."""
    lines = [f"# {line}\n" for line in comment.splitlines()]
    for name, sharding in shardings.items():
        lines.append(yaml.safe_dump({name: _entry(sharding)}, default_flow_style=None, sort_keys=False, width=1 << 20))
    Path(path).write_text("".join(lines) or "{}\n", encoding="utf-8")


def read_plan(path: str | Path, *, world_size: int | None = None) -> dict[str, Sharding]:
    """The shardings of a plan, by table name.

    An entry is a mapping as `write_plan` writes it, or Sharding's text form.

    Args:
      world_size: the number of ranks, to check owners; None: owners are not checked.

    Raises:
      ValueError: the file is no plan; the message names the file and the table. FileNotFoundError: no such file.
    """
    tree = read_yaml(path)
    if not isinstance(tree, dict) or not all(isinstance(name, str) for name in tree):
        raise ValueError(f"{path} must map table names to shardings; got {type(tree).__name__}.")
    plan = {}
    for name, entry in tree.items():
        try:
            plan[name] = _sharding(entry)
            if world_size is not None:
                plan[name].check_world(world_size)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {name}: {error}") from None
    return plan


def _entry(sharding: Sharding) -> dict[str, Any]:
    entry: dict[str, Any] = {"sharding": sharding.kind}
    if sharding.owner is not None:
        entry["owner"] = sharding.owner
    if sharding.hot_rows:
        entry["hot_rows"] = sharding.hot_rows
    return entry


def _sharding(entry: Any) -> Sharding:
    if isinstance(entry, str):
        return Sharding.parse(entry)
    if not isinstance(entry, dict) or "sharding" not in entry:
        raise ValueError(f"wanted {{sharding: …}} or a text such as table:3; got {entry!r}.")
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise ValueError(f"there is no key {unknown[0]!r}; keys are {', '.join(KEYS)}.")
    return Sharding(entry["sharding"], entry.get("owner"), entry.get("hot_rows", 0))
