"""recis ckpt diff: in which rows and weights two checkpoints differ."""

from __future__ import annotations

import json
from typing import Any

import torch
import tyro
from pydantic.dataclasses import dataclass
from torch import Tensor

from recis_core.cli.ckpt_listing import say, show
from recis_core.cli.ckpt_sources import source_at
from recis_core.cli.flags import plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.cli.screen import rows_shown
from recis_core.planning.quantity import parse_bytes
from recis_core.serialize import TableSource
from recis_core.serialize.table_diff import TableDiff, diff_tables


@plain_errors
@dataclass(frozen=True, kw_only=True)
class DiffConfig:
    """Compare two checkpoints by tables, ids, weights, slots, and the dense side. Either may be ours, RecIS's or TorchRec's."""

    a: tyro.conf.Positional[str]
    """A checkpoint, or a directory of them, of which the latest is read; or a URL."""
    b: tyro.conf.Positional[str]
    """Another."""
    memory: str = "256MB"
    """About so much of the rows is held in memory, the rest in temporary files."""
    scratch: str | None = None
    """A directory for those files. Default: that of temporary files."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        try:
            wrong = parse_bytes(self.memory) < 1
        except ValueError:
            wrong = True
        if wrong:
            raise ValueError(f"--memory must be a size such as 512MB or 4GiB; got {self.memory!r}.")


def run(argv: list[str]) -> int:
    config = read_flags(DiffConfig, argv, "recis ckpt diff")
    a, b = source_at(config.a), source_at(config.b)
    both = sorted(set(a.tables) & set(b.tables))
    tables: dict[str, TableDiff] = {}
    with rows_shown("comparing", not config.json) as show_rows:
        for name in both:
            tables[name] = diff_tables(
                a.tables[name], b.tables[name], memory=parse_bytes(config.memory), directory=config.scratch,
                progress=show_rows,
            )  # fmt: skip
    found: dict[str, Any] = {
        "tables": {name: diff.as_json() for name, diff in tables.items()},
        "only_a": sorted(set(a.tables) - set(both)),
        "only_b": sorted(set(b.tables) - set(both)),
        "dense": _dense(a, b),
    }
    alone = found["only_a"] or found["only_b"] or found["dense"]
    found["equal"] = not alone and all(diff.equal for diff in tables.values())
    if config.json:
        print(json.dumps(found))
    else:
        _show(found)
    return 0


def _dense(a: TableSource, b: TableSource) -> dict[str, str | float]:
    """{name: largest difference, or why there is none}, of tensors that are not equal."""
    one, other = a.dense(), b.dense()
    found: dict[str, str | float] = {}
    for name in sorted(set(one) | set(other)):
        if name not in one or name not in other:
            found[name] = f"only {'a' if name in one else 'b'} has it"
        elif (unlike := _difference(one[name], other[name])) != 0:
            found[name] = unlike
    return found


def _difference(one: Tensor, other: Tensor) -> str | float:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return f"{one.dtype} {list(one.shape)}, {other.dtype} {list(other.shape)}"
    if torch.equal(one.nan_to_num(), other.nan_to_num()) and torch.equal(one.isnan(), other.isnan()):
        return 0.0
    largest = (one.double() - other.double()).abs().nan_to_num(nan=float("inf")).max()
    return "inf" if largest == float("inf") else float(largest)


def _show(found: dict[str, Any]) -> None:
    heads = ("table", "rows a", "rows b", "only a", "only b", "differ", "largest difference", "notes")
    rows = []
    for name, diff in found["tables"].items():
        largest = ", ".join(
            f"{key} {value:.3g}" if value != "inf" else f"{key} inf" for key, value in diff["largest"].items() if value
        )
        counts = (*diff["rows"], *diff["only"], diff["differ"])
        rows.append((name, *(f"{count:,}" for count in counts), largest, "; ".join(diff["notes"])))
    if rows:
        show("tables", heads, rows)
    for side in ("a", "b"):
        for name in found[f"only_{side}"]:
            say(f"only {side} has table {name}")
    for name, difference in found["dense"].items():
        say(f"dense {name}: {difference if isinstance(difference, str) else f'differs by {difference:.3g} at most'}")
    say("equal" if found["equal"] else "not equal")
