"""Loads tables of a torch.distributed.checkpoint directory, on any number of ranks.

    dcp.save({"model": model.state_dict()}, checkpoint_id=path)     # every rank writes its own slices
    load_model(path, model)                                         # every rank reads the slices it needs

Plain dcp.load needs each tensor's size before it reads, and a rank does not know other ranks' slices. Wrappers' parts of
names (`module.` of DDP) are ignored, in model and checkpoint. saved_model.py reads a directory that --save wrote.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recis_core.backends.errors import CorruptCheckpoint, ExchangeFailed, ExchangeMismatch
from recis_core.nn import column_blocks as blocks
from recis_core.nn import slices
from recis_core.nn.hash_table import HashTable
from recis_core.serialize.dense import plain_name
from recis_core.serialize.imports.dcp_metadata import METADATA, read_metadata
from recis_core.serialize.saved_model import is_saved_state, load_saved_model, load_saved_tables
from recis_core.table.replacement import Replacement
from recis_core.table.table import Table
from recis_core.uninterrupted import as_one, uninterrupted
from recis_core.urls import is_url

KEY = re.compile(r"(.*)\.(slices\.\d+-\d+\.(?:columns\.\d+-\d+\.)?(?:ids|rows|slot\..+))")

Stored = dict[str, str]  # "slices.0-32768.ids": its key in the checkpoint


def load_model(path: str | os.PathLike[str], model: nn.Module, key: str | None = "model") -> None:
    """Load tables and dense side of `model`, saved by any number of ranks, bare or under DDP or FSDP2. Collective.

    While it reads, memory holds the parameters twice, so that an error changes nothing.

    Args:
      path: a checkpoint of torch.distributed.checkpoint; or a state of `recis train --save`, save_state or
        save_shared_state; or a directory of states, of which the latest is read.
      key: in a checkpoint the key of the model's state_dict; None if the state_dict was saved without one. Ignored for
        states.

    Raises:
      as load_tables. If a parameter is missing or has another shape: of a checkpoint, dcp.load's error; of a state,
      StateMismatch (a ValueError).
    """
    if is_saved_state(path):
        load_saved_model(path, model)
        return
    with _together(_tables(model).values(), "load_model"):
        dense = {n: v.detach().clone() if isinstance(v, Tensor) else v for n, v in dense_state_dict(model).items()}
        stored = _dense_names(dense, _metadata(path), key)
    read = {stored[name]: value for name, value in dense.items()}
    _dcp_load(path, read, no_dist=not dist.is_initialized())
    made = _made_aside(path, model, key)
    with uninterrupted():
        with slices.left_out():
            model.load_state_dict({name: read[stored[name]] for name in dense}, strict=False)
        _commit(made)


def _dense_names(dense: Iterable[str], metadata: Any, key: str | None) -> dict[str, str]:
    """{name: name in the checkpoint}; a missing name stays as it is, and dcp.load refuses it."""
    head = f"{key}." if key else ""
    there = [name for name in metadata.state_dict_metadata if name.startswith(head)]
    if not there:
        some = ", ".join(sorted(metadata.state_dict_metadata)[:3])
        raise CorruptCheckpoint(
            f"the checkpoint has nothing under key {key!r}; it has {some}, …. Pass key=None where a state_dict was saved "
            "by itself."
        )
    by_plain: dict[str, list[str]] = {}
    for name in there:
        by_plain.setdefault(plain_name(name.removeprefix(head)), []).append(name)
    found = {}
    for name in dense:
        alike = by_plain.get(plain_name(name), [])
        found[name] = alike[0] if len(alike) == 1 and head + name not in there else head + name
    return found


def dense_state_dict(model: nn.Module) -> dict[str, Any]:
    """model.state_dict() without tables; no table is copied."""
    with slices.left_out():
        return model.state_dict()


def load_tables(path: str | os.PathLike[str], model: nn.Module, key: str | None = None) -> None:
    """Replace the model's tables by those of a checkpoint made by any number of ranks. Collective.

    A rank reads the slices that hold its rows, one at a time, into new tables; when all ranks have read theirs, the new
    tables replace the old ones. Memory holds old and new rows, and one slice.

    Args:
      path: a directory that dcp.save wrote, whose metadata is a pickle: one that names other classes than those of such
        metadata is refused. Or a saved state, as for load_model.
      key: the key of the model's state_dict; None finds it.

    Raises:
      FileNotFoundError: there is no checkpoint.
      CorruptCheckpoint: rows are missing, of another shape or unreadable.
      ExchangeMismatch: another rank raised; see its error.
      After an error no table is changed, except a table with CacheConfig(keep=True): its rows are written over those on
      its disk, and an interruption leaves rows of both.
    """
    if is_saved_state(path):
        load_saved_tables(path, model)
        return
    _commit(_made_aside(path, model, key))


def _made_aside(path: str | os.PathLike[str], model: nn.Module, key: str | None) -> list[Replacement]:
    tables = _tables(model)
    with _together(tables.values()):
        metadata = _metadata(path)
        stored = {name: _stored(name, metadata, key) for name in tables}
        _survey(path, tables, stored, metadata)
    by_storage: dict[Table, list[str]] = {}
    for name, table in tables.items():
        by_storage.setdefault(table.physical, []).append(name)
    with _together(tables.values()):
        return [
            _filled(path, storage, {n: tables[n] for n in ns}, stored, metadata) for storage, ns in by_storage.items()
        ]


def _filled(
    path: object, storage: Table, tables: Mapping[str, HashTable], stored: Mapping[str, Stored], metadata: Any
) -> Replacement:
    """The new rows of all tables of one storage."""
    new, columns = Replacement(storage, [table.ordinal for table in tables.values()]), storage.columns
    for name, table in tables.items():
        for part in slices.needed(table, stored[name]):
            mine = blocks.joined(_read(path, stored[name], part, metadata, columns), columns)[0]
            if faults := list(slices.faults(table, mine, part)):
                raise CorruptCheckpoint(f"{path} cannot fill table {name}: {'; '.join(faults[:5])}")
            slices.load_slice(new, table, mine, part)
    return new


@as_one
def _commit(made: Iterable[Replacement]) -> None:
    for new in made:
        new.commit()


def _tables(model: nn.Module) -> dict[str, HashTable]:
    return {plain_name(name): m for name, m in model.named_modules() if isinstance(m, HashTable)}


@contextmanager
def _together(tables: Iterable[HashTable], kind: str = "load") -> Iterator[None]:
    """If one rank raises inside, all ranks raise at the end. kind: one of agreement.KINDS."""
    exchanges = dict.fromkeys(t.physical.exchange for t in tables if t.physical.exchange is not None)
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    for exchange in exchanges:
        try:
            exchange.channel.meet(kind, error=failure)
        except (ExchangeMismatch, ExchangeFailed) as theirs:
            failure = failure or theirs
    if failure is not None:
        raise failure


def _metadata(path: str | os.PathLike[str]) -> Any:
    if is_url(os.fspath(path)) or not (Path(path) / METADATA).exists():
        raise FileNotFoundError(
            f"{path} holds no checkpoint of torch.distributed.checkpoint (it has no .metadata) and no state that --save "
            "wrote (step-*/manifest.json)."
        )
    return read_metadata(Path(path))  # first: dcp.load reads it by a plain pickle


def _stored(name: str, metadata: Any, key: str | None) -> Stored:
    """The checkpoint's keys of the table at this path of the model.

    Raises:
      CorruptCheckpoint: several saved models have such a table; `key` must name one.
    """
    heads: dict[str, Stored] = {}
    for full in metadata.state_dict_metadata:
        if found := KEY.fullmatch(full):
            heads.setdefault(plain_name(found[1]), {})[found[2]] = full
    wanted = f"{plain_name(key)}.{name}".strip(".") if key else None
    fits = [head for head in heads if (head == wanted if key else f".{head}".endswith(f".{name}"))]
    if len(fits) > 1:
        raise CorruptCheckpoint(f"several saved tables fit {name!r}: {sorted(fits)}. Say which by key=.")
    return heads[fits[0]] if fits else {}


def _survey(path: object, tables: Mapping[str, HashTable], stored: Mapping[str, Stored], metadata: Any) -> None:
    faults = []
    for name, table in tables.items():
        parts = {part: _empty(metadata, full) for part, full in stored[name].items()}
        mine, narrow = blocks.joined(parts, table.physical.columns)
        lacking, wrong = (narrow, []) if narrow else slices.survey(table, mine)
        faults += [f"{name}.{part} is not there" for part in lacking] + [f"{name}.{fault}" for fault in wrong]
    if faults:
        raise CorruptCheckpoint(f"{path} cannot fill this rank's tables: {'; '.join(faults[:5])}.")


def _empty(metadata: Any, full: str, device: str = "meta") -> Tensor:
    saved = metadata.state_dict_metadata[full]
    return torch.empty(saved.size, dtype=saved.properties.dtype, device=device)


def _read(path: object, stored: Stored, part: str, metadata: Any, columns: tuple[int, int]) -> dict[str, Tensor]:
    """One slice's tensors; of a slice cut by columns only blocks that hold some of `columns`."""
    names = {
        name: full for name, full in stored.items() if name.startswith(f"{part}.") and blocks.overlap(name, columns)
    }
    state = {full: _empty(metadata, full, "cpu") for full in names.values()}
    _dcp_load(path, state, no_dist=True)
    return {name: state[full] for name, full in names.items()}


def _dcp_load(path: Any, state: dict[str, Any], *, no_dist: bool) -> None:
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        try:
            dcp.load(state, checkpoint_id=path, no_dist=no_dist)
        except dcp.CheckpointException as error:  # a BaseException that is no Exception
            raise CorruptCheckpoint(f"{path} cannot be read: {error}") from error
