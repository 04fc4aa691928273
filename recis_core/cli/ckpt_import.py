"""recis ckpt import: a checkpoint of ours, made of one of another format."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli import stopping
from recis_core.cli.ckpt_listing import say
from recis_core.cli.ckpt_rewriting import as_ours, check_out, write_tables
from recis_core.cli.ckpt_sources import Kind, kind_of, parquet_at, renames, source_at
from recis_core.cli.flags import plain_errors, read_flags
from recis_core.serialize import TableSource, new_checkpoint, recis_source, torchrec_source
from recis_core.serialize.imports.selection import named


@plain_errors
@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Make a checkpoint of RecIS v1's, TorchRec's, another of ours, or Parquet files of ids and vectors. Rows are read some at
    a time."""

    source: tyro.conf.Positional[str]
    """A RecIS output directory or checkpoint; a directory of dcp.save or a file of torch.save; Parquet files."""
    out: tyro.conf.Positional[str]
    """A directory of checkpoints, or its URL; it is made if it is missing."""
    kind: Kind = "auto"
    """What the source is, where its name and files do not tell."""
    step: Annotated[int | None, Field(ge=0)] = None
    """Of the new checkpoint. Default: the source's, or 0."""
    load: tuple[str, ...] = ("*",)
    """Tables to take, by their names in the source, or patterns."""
    exclude: tuple[str, ...] = ()
    """Tables to leave out."""
    rename: tuple[str, ...] = ()
    """OLD=NEW for tables that get another name; one * stands for the same letters in both."""
    non_finite: Literal["refuse", "skip", "keep"] = "refuse"
    """Rows with NaN or inf: refuse them, leave them out, or keep them."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Of RecIS: the optimizer's, which t is worked out from."""
    t: Annotated[int | None, Field(ge=0)] = None
    """Of TorchRec: steps that its optimizer applied."""
    momentum1: Literal["sum", "momentum"] = "sum"
    """Of TorchRec: what momentum1 is without a second moment, of Adagrad or of SGD."""
    table: str | None = None
    """Of Parquet: the table's name."""
    id: str = "id"
    """Of Parquet: the column of ids."""
    vector: tuple[str, ...] = ("vector",)
    """Of Parquet: the column of lists, or one for each number."""
    slots: tuple[str, ...] = ()
    """Of Parquet: columns of an optimizer's slots."""
    overwrite: bool = False
    """Replace a checkpoint of that step."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        renames(self.rename)
        if not self.vector:
            raise ValueError("--vector takes a column, or several.")


def run(argv: list[str]) -> int:
    config = read_flags(ImportConfig, argv, "recis ckpt import")
    stopping.current().done = "nothing was written"
    source = _source(config)
    step = config.step if config.step is not None else source.step or 0
    check_out(config.out, step, config.overwrite)
    names = named(list(source.tables), config.load, config.exclude, renames(config.rename), source.name)
    dense = source.dense()
    with new_checkpoint(config.out, step) as writer:
        rows = write_tables(writer, as_ours(source.only(names), config.non_finite), quiet=config.json)
        if dense:
            writer.part("dense", dense)
        t = {name: table.t for name, table in source.only(names).tables.items() if table.t is not None}
        writer.part("imported", {"source": source.name, "t": t})
    ignored = {
        name: list(source.tables[their].ignored) for name, their in names.items() if source.tables[their].ignored
    }
    said = {"out": config.out, "step": step, "rows": rows, "dense": len(dense), "ignored": ignored}
    if config.json:
        print(json.dumps(said))
        return 0
    for name, count in rows.items():
        say(f"{name}: {count:,} rows" + (f", without {', '.join(ignored[name])}" if name in ignored else ""))
    say(f"step {step} in {config.out}" + (f", with {len(dense):,} tensors of the dense side" if dense else ""))
    return 0


def _source(config: ImportConfig) -> TableSource:
    kind = kind_of(config.source) if config.kind == "auto" else config.kind
    if kind == "parquet":
        if config.table is None:
            raise ValueError(f"{config.source} is Parquet: --table says how its table is called.")
        return parquet_at(config.source, config.table, config.id, config.vector, config.slots)
    if kind == "recis":
        return recis_source(config.source, beta2=config.beta2)
    if kind == "torchrec":
        return torchrec_source(config.source, momentum1=config.momentum1, t=config.t)
    return source_at(config.source, kind)
