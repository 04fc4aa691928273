"""recis ckpt reshard: a checkpoint's tables in files of other ranks, shardings or sizes, some of them, or under other names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli import stopping
from recis_core.cli.ckpt_listing import say
from recis_core.cli.ckpt_rewriting import Rows, as_ours, check_out, write_tables
from recis_core.cli.ckpt_sources import renames
from recis_core.cli.flags import plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.options.sharding import Sharding
from recis_core.planning.quantity import parse_bytes
from recis_core.serialize import RankLayout, new_checkpoint, open_checkpoint
from recis_core.serialize.imports.selection import named
from recis_core.serialize.imports.state import source_of
from recis_core.serialize.tables import PART


@plain_errors
@dataclass(frozen=True, kw_only=True)
class ReshardConfig:
    """Write a checkpoint anew: each table in files of one size, or in files that so many ranks would have written, each its
    own rows or columns. Loading needs no resharding, for any ranks read any checkpoint; programs that read files by rank do.
    Readers' positions and random numbers stay those of the ranks that saved. Of a training state of recis train --save the
    tables come into files of their own; such a checkpoint starts other runs, and --resume wants the state itself. Of chosen or
    renamed tables the new checkpoint holds rows and the dense side alone."""

    path: tyro.conf.Positional[str]
    """A checkpoint, or a directory of them, of which the latest is read; or a URL."""
    out: tyro.conf.Positional[str]
    """A directory of checkpoints, or its URL; it is made if it is missing."""
    ranks: Annotated[int | None, Field(ge=1)] = None
    """Lay files out for so many ranks. Default: as one process writes them."""
    sharding: tuple[str, ...] = ()
    """With --ranks: row, table:OWNER or column for all tables, or TABLE=SHARDING for those of a name or pattern; the first that
    fits a table holds. Default: row."""
    file_size: str = "64MiB"
    """Of each file of rows, at most; so much is in memory at a time, with --ranks for each rank."""
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
        if self.sharding and self.ranks is None:
            raise ValueError("--sharding says how rows lie on ranks; --ranks says how many there are.")
        for _, sharding in shardings(self.sharding):
            RankLayout(self.ranks or 1, sharding)
        try:
            wrong = parse_bytes(self.file_size) < 1
        except ValueError:
            wrong = True
        if wrong:
            raise ValueError(f"--file-size must be a size such as 64MiB or 1GB; got {self.file_size!r}.")


def shardings(said: tuple[str, ...]) -> list[tuple[str, Sharding]]:
    """(pattern, sharding) of SHARDING or TABLE=SHARDING. Raises ValueError."""
    pairs = [each.rpartition("=") for each in said]
    return [(pattern if divides else "*", Sharding.parse(sharding)) for pattern, divides, sharding in pairs]


def laid_out(tables: Iterable[Rows], config: ReshardConfig) -> Iterator[Rows]:
    """The tables for --ranks and --sharding."""
    rules = shardings(config.sharding)
    for table in tables:
        fitting = [sharding for pattern, sharding in rules if fnmatchcase(table.name, pattern)]
        sharding = fitting[0] if fitting else Sharding()
        yield table if config.ranks is None else replace(table, layout=RankLayout(config.ranks, sharding))


def check_patterns(config: ReshardConfig, names: Iterable[str]) -> None:
    """Raises ValueError where --sharding names no table that is written."""
    for pattern, _ in shardings(config.sharding):
        if pattern != "*" and not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"--sharding {pattern}: no such table is written; there are {', '.join(names)}.")


def run(argv: list[str]) -> int:
    config = read_flags(ReshardConfig, argv, "recis ckpt reshard")
    stopping.current().done = "nothing was written"
    checkpoint = open_checkpoint(config.path)
    check_out(config.out, checkpoint.step, config.overwrite)
    source = source_of(checkpoint)
    names = named(list(source.tables), config.load, config.exclude, renames(config.rename), source.name)
    check_patterns(config, names)
    with new_checkpoint(
        config.out, checkpoint.step, environment=checkpoint.environment, file_bytes=parse_bytes(config.file_size)
    ) as writer:
        rows = write_tables(writer, laid_out(as_ours(source.only(names)), config), quiet=config.json)
        for part in checkpoint.parts if config.whole else set(checkpoint.parts) & {"dense"}:
            if not part.startswith(PART):
                writer.part(part, checkpoint.part(part))
    if config.json:
        print(json.dumps({"out": config.out, "step": checkpoint.step, "rows": rows}))
        return 0
    laid = "" if config.ranks is None else f", in files of {config.ranks:,} ranks"
    say(f"step {checkpoint.step} in {config.out}: {sum(rows.values()):,} rows of {len(rows):,} tables{laid}")
    return 0
