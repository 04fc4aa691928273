"""recis ckpt compact: a delta and what it is based on, as one full checkpoint."""

from __future__ import annotations

import json

import tyro
from pydantic.dataclasses import dataclass

from recis_core.cli import stopping
from recis_core.cli.ckpt_listing import checkpoints_at, say
from recis_core.cli.ckpt_rewriting import as_ours, check_out, write_tables
from recis_core.cli.flags import plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.errors import RecisError
from recis_core.serialize import Checkpoint, new_checkpoint, open_checkpoint
from recis_core.serialize.imports.state import source_of


@plain_errors
@dataclass(frozen=True, kw_only=True)
class CompactConfig:
    """Make a full checkpoint of a delta, in its place: until that is whole, the delta stays. Those it was based on can then go
    (recis ckpt prune)."""

    path: tyro.conf.Positional[str]
    """A checkpoint, or a directory of them, of which the latest is taken; or a URL."""
    out: str | None = None
    """Write it to this directory of checkpoints instead, and leave the delta."""
    json: bool = False
    """Print one JSON object."""


def run(argv: list[str]) -> int:
    config = read_flags(CompactConfig, argv, "recis ckpt compact")
    stopping.current().done = "nothing was written"
    checkpoint = open_checkpoint(config.path)
    here = str(checkpoint.path.parent)
    out = config.out or here
    if config.out is not None:
        check_out(out, checkpoint.step, overwrite=False)
    elif checkpoint.kind == "full":
        return _say(config, checkpoint, out, "is full already; nothing was written")
    else:
        _require_no_delta_upon(checkpoint, here)
    with new_checkpoint(out, checkpoint.step, environment=checkpoint.environment) as writer:
        write_tables(writer, as_ours(source_of(checkpoint)), quiet=config.json)
        for part in checkpoint.parts:
            writer.part(part, checkpoint.part(part))
    return _say(config, checkpoint, out, f"is full, of {len(checkpoint.chain)} checkpoints")


def _require_no_delta_upon(checkpoint: Checkpoint, directory: str) -> None:
    """Raises ValueError where a later delta is based on this one: it would have lost its base."""
    for step, other in checkpoints_at(directory).items():
        if not isinstance(other, RecisError) and other.base is not None and other.base.step == checkpoint.step:
            raise ValueError(
                f"{other.path} holds what changed since step {checkpoint.step}, which must stay as it is. Compact step {step} "
                "or a later one, or give --out."
            )


def _say(config: CompactConfig, checkpoint: Checkpoint, out: str, what: str) -> int:
    if config.json:
        print(json.dumps({"out": out, "step": checkpoint.step, "compacted": len(checkpoint.chain) - 1}))
    else:
        say(f"step {checkpoint.step} in {out} {what}")
    return 0
