"""recis ckpt reshard: a checkpoint's tables in files of another size, some of them, or under other names."""

from __future__ import annotations

import json

import tyro
from pydantic.dataclasses import dataclass

from recis_core.cli import stopping
from recis_core.cli.ckpt_listing import say
from recis_core.cli.ckpt_rewriting import as_ours, check_out, write_tables
from recis_core.cli.ckpt_sources import renames
from recis_core.cli.flags import plain_errors, read_flags
from recis_core.planning.quantity import parse_bytes
from recis_core.serialize import new_checkpoint, open_checkpoint
from recis_core.serialize.imports.selection import named
from recis_core.serialize.imports.state import source_of
from recis_core.serialize.tables import PART


@plain_errors
@dataclass(frozen=True, kw_only=True)
class ReshardConfig:
    """Write a checkpoint anew, with each table in files of one size, whatever ranks saved it. Loading needs no resharding: any
    ranks read any checkpoint. Of a training state of recis train --save the tables come into files of their own; such a
    checkpoint starts other runs, and --resume wants the state itself. Of chosen or renamed tables the new checkpoint holds rows
    and the dense side alone."""

    path: tyro.conf.Positional[str]
    """A checkpoint, or a directory of them, of which the latest is read; or a URL."""
    out: tyro.conf.Positional[str]
    """A directory of checkpoints, or its URL; it is made if it is missing."""
    file_size: str = "64MiB"
    """Of each file of rows, at most; so much is in memory at a time."""
    load: tuple[str, ...] = ("*",)
    """Tables to take, by names or patterns."""
    exclude: tuple[str, ...] = ()
    """Tables to leave out."""
    rename: tuple[str, ...] = ()
    """OLD=NEW for tables that get another name; one * stands for the same letters in both."""
    overwrite: bool = False
    """Replace a checkpoint of that step."""
    json: bool = False
    """Print one JSON object."""

    @property
    def whole(self) -> bool:
        """Whether all tables keep their names: what else the checkpoint holds of a run then still fits them."""
        return self.load == ("*",) and not self.exclude and not self.rename

    def __post_init__(self) -> None:
        renames(self.rename)
        try:
            wrong = parse_bytes(self.file_size) < 1
        except ValueError:
            wrong = True
        if wrong:
            raise ValueError(f"--file-size must be a size such as 64MiB or 1GB; got {self.file_size!r}.")


def run(argv: list[str]) -> int:
    config = read_flags(ReshardConfig, argv, "recis ckpt reshard")
    stopping.current().done = "nothing was written"
    checkpoint = open_checkpoint(config.path)
    check_out(config.out, checkpoint.step, config.overwrite)
    source = source_of(checkpoint)
    names = named(list(source.tables), config.load, config.exclude, renames(config.rename), source.name)
    with new_checkpoint(
        config.out, checkpoint.step, environment=checkpoint.environment, file_bytes=parse_bytes(config.file_size)
    ) as writer:
        rows = write_tables(writer, as_ours(source.only(names)), quiet=config.json)
        for part in checkpoint.parts if config.whole else set(checkpoint.parts) & {"dense"}:
            if not part.startswith(PART):
                writer.part(part, checkpoint.part(part))
    if config.json:
        print(json.dumps({"out": config.out, "step": checkpoint.step, "rows": rows}))
    else:
        say(f"step {checkpoint.step} in {config.out}: {sum(rows.values()):,} rows of {len(rows):,} tables")
    return 0
