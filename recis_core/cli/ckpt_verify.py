"""recis ckpt verify: every byte of checkpoints against its hash."""

from __future__ import annotations

import json
import sys

import tyro
from pydantic.dataclasses import dataclass

from recis_core.cli.ckpt_listing import checkpoints_at, say, sized
from recis_core.cli.flags import plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.errors import RecisError
from recis_core.serialize import Checkpoint, open_checkpoint


@plain_errors
@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Read every byte of a checkpoint, and of those a delta is based on. Exit code 1, and the file and section, where one is
    damaged."""

    path: tyro.conf.Positional[str]
    """A checkpoint, or a directory of them, of which the latest is read; or a URL."""
    all: bool = False
    """Read all checkpoints of the directory, also after one that is damaged."""
    json: bool = False
    """Print one JSON object for each checkpoint."""


def run(argv: list[str]) -> int:
    config = read_flags(VerifyConfig, argv, "recis ckpt verify")
    if config.all:
        found = [(step, each, _fault(each)) for step, each in checkpoints_at(config.path).items()]
    else:
        checkpoint = open_checkpoint(config.path)
        found = [(checkpoint.step, checkpoint, _fault(checkpoint))]
    for step, each, fault in found:
        size = None if isinstance(each, RecisError) else _bytes(each)
        if config.json:
            print(json.dumps({"step": step, "whole": fault is None, "bytes": size, "fault": fault}))
        elif fault is None:
            say(f"step {step}: whole, {sized(size)}")
        else:
            print(f"recis ckpt verify: step {step}: {fault}", file=sys.stderr)
    return int(any(fault is not None for _, _, fault in found))


def _fault(found: Checkpoint | RecisError) -> str | None:
    if isinstance(found, RecisError):
        return str(found)
    try:
        found.verify()
    except RecisError as error:
        return str(error)
    return None


def _bytes(checkpoint: Checkpoint) -> int:
    """Of this one and of those it is based on."""
    return sum(part.hashes.bytes for each in checkpoint.chain for part in each.manifest.parts.values())
