"""What a path holds, for `recis ckpt`: a checkpoint of ours, RecIS's, TorchRec's, or Parquet files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from recis_core.serialize import (
    TableSource,
    parquet_source,
    recis_source,
    state_source,
    torchrec_source,
)
from recis_core.serialize.imports.dcp_metadata import METADATA
from recis_core.serialize.imports.parquet_rows import SUFFIXES
from recis_core.serialize.imports.recis_checkpoint import INDEX, NEWEST
from recis_core.urls import is_url

Kind = Literal["auto", "state", "recis", "torchrec", "parquet"]
TORCH = (".pt", ".pth", ".bin", ".ckpt")


def kind_of(path: str) -> Kind:
    """The kind that a path looks like.

    Raises:
      ValueError: none.
    """
    if path.endswith(SUFFIXES):
        return "parquet"
    if is_url(path):
        return "state"
    if not os.path.lexists(path):
        raise FileNotFoundError(f"{path} is not there.")
    if path.endswith(TORCH) or os.path.lexists(Path(path) / METADATA):
        return "torchrec"
    if os.path.isdir(path):
        return _of_directory(Path(path))
    raise ValueError(
        f"{path} ends in none of {', '.join((*SUFFIXES, *TORCH))}, and is no directory. Say what it is: --kind recis, torchrec "
        "or parquet."
    )


def _of_directory(path: Path) -> Kind:
    if os.path.lexists(path / INDEX) or os.path.lexists(path / NEWEST):
        return "recis"
    return "parquet" if any(path.glob(f"*{SUFFIXES[0]}")) else "state"


def source_at(path: str, kind: Kind = "auto") -> TableSource:
    """A source that needs no more than its path. Raises ValueError for Parquet, which needs names of table and columns."""
    kind = kind_of(path) if kind == "auto" else kind
    if kind == "parquet":
        raise ValueError(f"{path} is Parquet, of which `recis ckpt import` makes a checkpoint.")
    if kind == "recis":
        return recis_source(path)
    return torchrec_source(path) if kind == "torchrec" else state_source(path)


def parquet_at(path: str, table: str, id: str, vector: tuple[str, ...], slots: tuple[str, ...]) -> TableSource:
    return parquet_source(table, path, id=id, vector=vector[0] if len(vector) == 1 else list(vector), slots=slots)


def renames(pairs: tuple[str, ...]) -> dict[str, str]:
    """{old: new} of OLD=NEW. Raises ValueError."""
    split = [pair.split("=") for pair in pairs]
    wrong = [pair for pair, parts in zip(pairs, split, strict=True) if len(parts) != 2 or not all(parts)]
    if wrong:
        raise ValueError(f"--rename takes OLD=NEW; got {wrong[0]!r}.")
    return {parts[0]: parts[1] for parts in split}
