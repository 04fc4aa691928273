"""Writes checkpoints in RecIS v1's format: safetensors files of blocks, and three JSON files that tell where they are.

One process writes a whole checkpoint by write_recis_checkpoint. Of many, each writes its shard by write_recis_shard, and
one of them then calls finish_recis_checkpoint, which writes the index last: the mark of a whole checkpoint.

Sizes: n rows, D dim.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recis_core.durable import make_directory, open_regular, sync_directory
from recis_core.serialize.imports.recis_checkpoint import INDEX
from recis_core.serialize.imports.recis_content import Tables, check_content
from recis_core.serialize.imports.recis_keys import ID, PLAIN, ROWS, SLICES, BlockKey, block_key, slices_of
from recis_core.serialize.part_file import DTYPES, NAMES, write_part
from recis_core.urls import local_path

TENSOR_KEYS = "tensorkey.json"
DESCRIBED = "torch_rank_weights_embs_table_multi_shard.json"


@dataclass(frozen=True)
class RecisShard:
    """What one shard wrote. files: {key: file}. forms: {key: [dtype, shape, where in its file's data]}. JSON values."""

    files: dict[str, str]
    forms: dict[str, list[Any]]

    def to_dict(self) -> dict[str, Any]:
        """To send to the process that finishes: RecisShard(**shard.to_dict())."""
        return asdict(self)


def write_recis_checkpoint(
    path: str | os.PathLike[str],
    tables: Tables,
    tensors: Mapping[str, Tensor] | None = None,
    *,
    shards: int = 1,
    parallel: int = 4,
) -> Path:
    """Write a whole checkpoint, or nothing.

    Args:
      path: the directory to make.
      tables: {table: {slot: values}} by RecIS's names of slots: "id" int64 [n] and "embedding" [n, D] at least;
        "sparse_adamw_exp_avg" [n, D], "step_filter" int64 [n, 1], ….
      tensors: plain tensors by name, as "sparse_adamw_beta2".
      shards: parts of each table, as of so many ranks of RecIS.
      parallel: files of each shard.

    Raises:
      FileExistsError: path is there. ValueError, TypeError: a name or tensor has no place in the format; nothing was written.
    """
    final = local_path(path, "a checkpoint of RecIS's form")
    if os.path.lexists(final):
        raise FileExistsError(
            errno.EEXIST, "a checkpoint is written to a new directory, and this one is there", str(final)
        )
    check_content(tables, tensors or {})
    aside = final.with_name(f".{final.name}.{os.getpid()}.writing")
    try:
        make_directory(aside)
        wrote = [
            write_recis_shard(
                aside, _share(tables, shard, shards), (tensors or {}) if shard == 0 else {}, shard, shards, parallel
            )
            for shard in range(shards)
        ]
        finish_recis_checkpoint(aside, wrote)
        aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sync_directory(final.parent)
    return final


def write_recis_shard(
    path: Path, tables: Tables, tensors: Mapping[str, Tensor], shard_index: int, shard_num: int, parallel: int
) -> RecisShard:
    """Write one shard's files into the directory `path`: the rows of its slices, and plain tensors of shard 0 alone.

    Raises:
      FileExistsError: one of its files is there. ValueError, TypeError: as write_recis_checkpoint.
    """
    if not 0 <= shard_index < shard_num or parallel < 1:
        raise ValueError(
            f"shard_index must be below shard_num, parallel at least 1; got {shard_index}, {shard_num}, {parallel}."
        )
    check_content(tables, tensors)
    blocks = {
        str(BlockKey(table, slot, shard_index, shard_num)): values.detach()
        for table, slots in tables.items()
        for slot, values in _in_order(slots)
    }
    blocks |= {name + PLAIN: value.detach() for name, value in tensors.items()}
    files: dict[str, str] = {}
    for number in range(parallel):
        mine = dict(list(blocks.items())[number::parallel])
        if mine:
            name = f"model-{shard_index * parallel + number:06}-of-{shard_num * parallel:06}.safetensors"
            write_part(path / name, mine)
            files |= dict.fromkeys(mine, name)
    return RecisShard(files, _forms(blocks, files))


def finish_recis_checkpoint(path: Path, shards: Iterable[RecisShard]) -> None:
    """Write the JSON files of a checkpoint whose shards are all written; the index last, by rename."""
    files: dict[str, str] = {}
    forms: dict[str, list[Any]] = {}
    for shard in shards:
        files |= shard.files
        forms |= shard.forms
    numbers = {name: number for number, name in enumerate(sorted(set(files.values())))}
    keys = {str(key): key.slice_name for key in map(block_key, files) if key is not None}
    _write_json(path, TENSOR_KEYS, keys)
    _write_json(path, DESCRIBED, {key: _described(key, *form) for key, form in forms.items()})
    _write_json(
        path, INDEX, {"block_index": {key: numbers[file] for key, file in files.items()}, "file_index": numbers}
    )
    sync_directory(path)


def _in_order(slots: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """As RecIS writes them: id, embedding, then the others."""
    first = [name for name in (ID, ROWS) if name in slots]
    return [(name, slots[name]) for name in [*first, *(name for name in slots if name not in first)]]


def _share(tables: Tables, shard: int, shards: int) -> dict[str, dict[str, Tensor]]:
    if shards == 1:
        return {table: dict(slots) for table, slots in tables.items()}
    begin, end = slices_of(shard, shards)
    mine = {table: (slots[ID] % SLICES >= begin) & (slots[ID] % SLICES < end) for table, slots in tables.items()}
    return {
        t: {name: values[mine[t].to(values.device)] for name, values in slots.items()} for t, slots in tables.items()
    }


def _forms(blocks: Mapping[str, Tensor], files: Mapping[str, str]) -> dict[str, list[Any]]:
    forms: dict[str, list[Any]] = {}
    ends = dict.fromkeys(files.values(), 0)
    for key, value in sorted(blocks.items(), key=lambda item: -item[1].element_size()):  # as write_part lays them out
        begin = ends[files[key]]
        ends[files[key]] = begin + value.numel() * value.element_size()
        forms[key] = [NAMES[value.dtype], list(value.shape), [begin, ends[files[key]]]]
    return forms


def _described(key: str, kind: str, shape: list[int], offsets: list[int]) -> dict[str, Any]:
    """What RecIS tells of a key beside its file; not needed to read it."""
    block, plain = block_key(key), str(DTYPES[kind]).removeprefix("torch.")
    if block is None:
        name = key.removesuffix(PLAIN)
        return {"dtype": plain, "shape": shape, "dense": True, "name": name, "dimension": 0, "is_hashmap": False}
    if block.slot != ROWS:
        return {"dtype": kind, "shape": shape, "dense": False, "data_offsets": offsets}
    id_key = str(BlockKey(block.table, ID, block.part, block.parts))
    return {
        "dtype": plain, "shape": shape, "dense": False, "name": key, "dimension": shape[-1], "is_hashmap": True,
        "hashmap_key": id_key, "hashmap_key_dtype": "int64", "hashmap_value": key,
    }  # fmt: skip


def _write_json(path: Path, name: str, values: Any) -> None:
    aside = path / f".{name}.writing"
    aside.unlink(missing_ok=True)
    with open(open_regular(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path / name)
