"""Tables of TorchRec models, from a state_dict, a file of torch.save, or a directory of torch.distributed.checkpoint.

TorchRec is not needed. Row i of a table has id i.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from recis_core.backends.errors import StateMismatch
from recis_core.serialize.imports.array_pieces import ArrayPiece
from recis_core.serialize.imports.dcp_metadata import METADATA
from recis_core.serialize.imports.pickles import read_plain
from recis_core.serialize.imports.source import StoredTable, TableSource
from recis_core.serialize.imports.torchrec_keys import TableKeys, dense_names, our_slots, tables_in
from recis_core.urls import local_path


def torchrec_source(
    state: str | os.PathLike[str] | Mapping[str, Any],
    *,
    prefix: str = "",
    momentum1: Literal["sum", "momentum"] = "sum",
    t: int | None = None,
) -> TableSource:
    """The tables and the dense side of a TorchRec model; states of fused optimizers become slots.

    exp_avg and exp_avg_sq, or momentum1 and momentum2, are Adam's slots m and v; sum is Adagrad's, of a row or of a value.

    Args:
      state: a model's state_dict, or a dict that holds one, with the optimizer's beside; or a file that torch.save wrote of
        one; or a directory that dcp.save wrote, by any number of ranks. Values of a dict or file are plain tensors.
      prefix: reads only tables whose keys begin so, where several have one name.
      momentum1: the slot of a momentum1 without a second moment: "sum" after Adagrad, "momentum" after SGD.
      t: steps that were applied, which these files do not hold. Adam needs it: its moments are corrected by t.

    Raises:
      FileNotFoundError: there is no such file. CorruptCheckpoint: it is damaged, or needs classes to be read.
      StateMismatch: it holds no table, or a value that is no plain tensor of a table's form.
    """
    if momentum1 not in ("sum", "momentum"):
        raise ValueError(f'momentum1 must be "sum" or "momentum"; got {momentum1!r}.')
    if isinstance(state, Mapping):
        return _of_dict(state, "the state_dict", prefix, momentum1, t)
    path = local_path(state, "a checkpoint of TorchRec")
    if path.is_dir():
        return _of_dcp(path, prefix, momentum1, t)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is neither a file of torch.save nor a directory with {METADATA} of dcp.save.")
    read = read_plain(path)
    if not isinstance(read, Mapping):
        raise StateMismatch(f"{path} holds a {type(read).__name__}; wanted a state_dict.")
    return _of_dict(read, str(path), prefix, momentum1, t)


def _of_dict(state: Mapping[str, Any], where: str, prefix: str, momentum1: str, t: int | None) -> TableSource:
    flat = dict(_flattened(state))
    keys = tables_in(flat, where, prefix)
    tables = {name: _table(flat, where, name, found, momentum1, t) for name, found in sorted(keys.items())}
    dense = dense_names(flat, keys)
    return TableSource(
        where, tables, None, lambda: {n: flat[key] for n, key in dense.items() if isinstance(flat[key], Tensor)}
    )


def _flattened(state: Mapping[Any, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{head}{key}.")
        else:
            yield f"{head}{key}", value


def _table(
    flat: Mapping[str, Any], where: str, name: str, keys: TableKeys, momentum1: str, t: int | None
) -> StoredTable:
    weight = _plain(flat, where, keys.weight)
    if weight.dim() != 2 or not weight.is_floating_point():
        raise StateMismatch(f"{where}: {keys.weight} must be floats [n, dim]; got {weight.dtype} {list(weight.shape)}.")
    states = {state: flat[key] for state, key in keys.states.items() if isinstance(flat[key], Tensor)}
    rows, dim = weight.shape
    slots = our_slots({state: tuple(value.shape) for state, value in states.items()}, rows, dim, momentum1)
    values = {slot: _plain(flat, where, keys.states[state]).detach().reshape(rows, -1) for slot, state in slots.items()}
    piece = ArrayPiece(f"{where}, {keys.weight}", weight.detach(), slots=values)
    ignored = tuple(sorted(set(states) - set(slots.values())))
    return StoredTable(name, dim, weight.dtype, [piece], tuple(slots), rows, distinct=True, t=t, ignored=ignored)


def _plain(flat: Mapping[str, Any], where: str, key: str) -> Tensor:
    value = flat[key]
    if not isinstance(value, Tensor) or hasattr(value, "to_local") or value.is_meta or value.device.type != "cpu":
        kind = f"{type(value).__name__} on {value.device}" if isinstance(value, Tensor) else type(value).__name__
        raise StateMismatch(
            f"{where}: {key} is a {kind}; wanted a plain tensor on the CPU. A sharded state_dict is saved by dcp.save, whose "
            "directory this reads, too."
        )
    return value


def _of_dcp(path: Path, prefix: str, momentum1: str, t: int | None) -> TableSource:
    from recis_core.serialize.imports.dcp_reader import DcpReader  # torch.distributed.checkpoint loads slowly
    from recis_core.serialize.imports.dcp_tables import dcp_table

    reader, where = DcpReader(path), str(path)
    keys = tables_in(reader.tensors, where, prefix)
    tables = {name: dcp_table(reader, name, found, momentum1, t) for name, found in sorted(keys.items())}
    dense = dense_names(reader.tensors, keys)
    return TableSource(where, tables, None, lambda: {name: reader.read(key) for name, key in dense.items()})
