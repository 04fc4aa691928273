"""recis ckpt import: a checkpoint of ours, made of one of another format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli import stopping
from recis_core.cli.ckpt_listing import say
from recis_core.cli.ckpt_rewriting import as_ours, check_out, without_slots, write_tables
from recis_core.cli.ckpt_sources import Kind, kind_of, parquet_at, renames, source_at
from recis_core.cli.flags import plain_errors
from recis_core.cli.read_flags import read_flags
from recis_core.serialize import CheckpointWriter, TableSource, new_checkpoint, recis_source, torchrec_source
from recis_core.serialize.imports.optimizer_part import SlotWidths, require_t, sparse_state
from recis_core.serialize.imports.selection import named


@plain_errors
@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Make a checkpoint of RecIS v1's, TorchRec's, another of ours, or Parquet files of ids and vectors. Rows are read some at
    a time. A run that restores tables, dense and optimizer of it goes on with the optimizer's slots and t, and with its own
    learning rate."""

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
    optimizer: bool = True
    """Take the optimizer, too: slots of tables, the steps it applied, and of RecIS the dense side's state."""
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
    chosen = source.only(names) if config.optimizer else without_slots(source.only(names))
    require_t(chosen.tables, source.name)
    with new_checkpoint(config.out, step) as writer:
        rows, dense, optimizer = _write(writer, chosen, config)
    ignored = {name: list(table.ignored) for name, table in chosen.tables.items() if table.ignored}
    sides = {"optimizer": sorted(optimizer), "t": optimizer.get("sparse", {}).get("t", {})}
    said = {"out": config.out, "step": step, "rows": rows, "dense": dense, **sides, "ignored": ignored}
    if config.json:
        print(json.dumps(said))
    else:
        _say(said, chosen)
    return 0


def _write(
    writer: CheckpointWriter, source: TableSource, config: ImportConfig
) -> tuple[dict[str, int], int, dict[str, Any]]:
    """(rows by table, tensors of the dense side, the optimizer's part)"""
    widths = SlotWidths()
    tables = as_ours(source, config.non_finite)
    noted = (replace(table, blocks=widths.noting(table.name, table.blocks)) for table in tables)
    rows, dense = write_tables(writer, noted, quiet=config.json), source.dense()
    if dense:
        writer.part("dense", dense)
    sides = {"sparse": sparse_state(source.tables, widths), "dense": source.dense_optimizer()}
    optimizer = {side: state for side, state in sides.items() if state and config.optimizer}
    if optimizer:
        writer.part("optimizer", optimizer)
    t = {name: table.t for name, table in source.tables.items() if table.t is not None}
    writer.part("imported", {"source": source.name, "t": t})
    return rows, len(dense), optimizer


def _say(said: Mapping[str, Any], source: TableSource) -> None:
    for name, count in said["rows"].items():
        slots, t, ignored = source.tables[name].slots, said["t"].get(name), said["ignored"].get(name)
        say(
            f"{name}: {count:,} rows"
            + (f", slots {', '.join(sorted(slots))}" if slots else "")
            + (f", t {t:,}" if t is not None else "")
            + (f", without {', '.join(ignored)}" if ignored else "")
        )
    dense = f", with {said['dense']:,} tensors of the dense side" if said["dense"] else ""
    say(f"step {said['step']} in {said['out']}{dense}{' and its optimizer' if 'dense' in said['optimizer'] else ''}")


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
