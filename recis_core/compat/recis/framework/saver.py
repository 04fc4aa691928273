"""One checkpoint of a run in RecIS's directories.

OUTPUT/checkpoint            names of checkpoints, a line each, the newest last
      ckpt_<step>/           tables (serialize.Saver), model.pt, extra.pt, io_state_<rank>.pt, io_state_count
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recis_core.compat.recis.absent import WithoutStages
from recis_core.compat.recis.framework.checkpoint_names import CheckpointNames
from recis_core.compat.recis.framework.load_choice import LoadChoice
from recis_core.compat.recis.nn.modules.hashtable import split_sparse_dense_state_dict
from recis_core.compat.recis.serialize.loader import Loader
from recis_core.compat.recis.serialize.saver import Saver as TableSaver
from recis_core.compat.recis.serialize.shards import on_all_ranks, require_ranks
from recis_core.compat.recis.utils.logger import Logger
from recis_core.durable import make_directory, sync_directory
from recis_core.serialize.imports.pickles import read_plain
from recis_core.urls import local_path

logger = Logger(__name__)


class Saver(WithoutStages):
    """Writes and reads one checkpoint: tables, dense model, registered objects, positions of data sets.

    Args:
      output_dir: a directory; max_keep: how many checkpoints stay there; concurrency: files of tables a rank.

    As recis.framework.checkpoint_manager.Saver. A checkpoint is written aside and renamed, so that one under its name is whole.
    """

    def __init__(
        self,
        model: nn.Module,
        sparse_optim: Any = None,
        output_dir: str | os.PathLike[str] = "./",
        max_keep: int = 1,
        concurrency: int = 4,
    ) -> None:
        self._model, self._sparse_optim = model, sparse_optim
        self._sparse, self._dense = split_sparse_dense_state_dict(dict(model.state_dict()))
        self._sparse_optim_state: dict[str, Any] = {} if sparse_optim is None else sparse_optim.state_dict()
        self._names, self._concurrency = CheckpointNames(local_path(output_dir, "output_dir"), max_keep), concurrency
        self._extra: dict[str, Any] = {}
        self._io_state: dict[str, Any] = {}

    def register_io_state(self, name: str, obj: Any) -> None:
        """Save the position of a data set, by dump_io_state and load_io_state. Raises ValueError: the name is taken."""
        _register(self._io_state, name, obj)

    def register_for_checkpointing(self, name: str, obj: Any) -> None:
        """Save a tensor, plain values, or an object with state_dict. Raises ValueError: the name is taken."""
        _register(self._extra, name, obj)

    def get_extra_data(self, name: str) -> Any:
        """A registered object, after a load the loaded one; None without."""
        return self._extra.get(name)

    def save(self, ckpt_id: str, shard_id: int = 0, shard_num: int = 1) -> None:
        """Write OUTPUT/ckpt_id, then drop the oldest beyond max_keep. Collective with several shards.

        Raises:
          OSError and others: on all ranks; the checkpoints that were there stay.
        """
        require_ranks(shard_num)
        aside = self._names.aside(ckpt_id)
        on_all_ranks(shard_num, lambda: _made_anew(aside) if shard_id == 0 else None)
        state = {**self._sparse, **self._sparse_optim_state}
        if state:
            self.save_sparse_params(shard_id, shard_num, str(aside), state, self._concurrency)
        on_all_ranks(shard_num, lambda: self._save_rest(aside, shard_id, shard_num))
        on_all_ranks(shard_num, lambda: self._names.publish(ckpt_id) if shard_id == 0 else None)
        logger.info_rank0("saved %s", self._names.path(ckpt_id))

    def _all_tables(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return split_sparse_dense_state_dict({**self._sparse, **self._sparse_optim_state})

    def save_sparse_params(
        self,
        shard_id: int,
        shard_num: int,
        ckpt_path: str,
        sparse_state_dict: Mapping[str, Any],
        concurrent: int = 16,
        sync_func: Callable[[], Any] | None = None,
    ) -> None:
        """Write a shard of tables, and plain tensors beside, into a checkpoint's directory; then call sync_func."""
        tables, numbers = split_sparse_dense_state_dict(dict(sparse_state_dict))
        if tables:
            TableSaver(shard_id, shard_num, concurrent, ckpt_path, tables, numbers).save()
        if sync_func is not None:
            sync_func()

    def save_dense_params(self, ckpt_path: str, dense_state_dict: Mapping[str, Tensor]) -> None:
        """Write model.pt into a checkpoint's directory."""
        torch.save(dict(dense_state_dict), Path(ckpt_path) / "model.pt")

    def _save_rest(self, path: Path, shard: int, shards: int) -> None:
        positions = {name: data.dump_io_state() for name, data in self._io_state.items()}
        if positions:
            torch.save(positions, path / f"io_state_{shard}.pt")
        if shard != 0:
            return
        if positions:
            (path / "io_state_count").write_text(str(shards))
        if self._dense:
            self.save_dense_params(str(path), self._dense)
        if self._extra:
            torch.save({name: _state(value) for name, value in self._extra.items()}, path / "extra.pt")

    def load(
        self,
        ckpt_path: str | os.PathLike[str] | None = None,
        ckpt_id: str | None = None,
        load_conf: Mapping[str, Any] | None = None,
        shard_id: int = 0,
        direct_path: bool = False,
    ) -> None:
        """Load a checkpoint; nothing where there is none.

        Args:
          ckpt_path: its directory if direct_path, else the output directory, by default ours.
          ckpt_id: its name there, by default the newest.
          load_conf: {"load": ["*", "sparse", "dense", "extra", "sparse_opt", "io_state"], "exclude": […], "strict": bool}.
        """
        if direct_path:
            found = None if not ckpt_path else local_path(ckpt_path, "ckpt_path")
        else:
            names = self._names if ckpt_path is None else CheckpointNames(local_path(ckpt_path, "ckpt_path"), 1)
            name = ckpt_id or names.newest()
            found = None if name is None else names.path(name)
        if found is None:
            logger.info_rank0("no checkpoint to load")
            return
        self.load_by_config(found, load_conf, shard_id)

    def load_by_config(
        self, ckpt_path: str | os.PathLike[str], load_conf: Mapping[str, Any] | None = None, shard_id: int = 0
    ) -> None:
        """Load what load_conf chooses; the dense model first, for it holds the step of tables' filters."""
        choice, path = LoadChoice.of(load_conf or {}), str(ckpt_path)
        if choice.dense and self._dense:
            self.load_dense_params(path, choice.strict)
        if choice.sparse and self._sparse:
            self.load_sparse_params(path)
        if choice.extra:
            self.load_extra_params(path, choice.io_state, shard_id)
        elif choice.io_state and self._io_state:
            self._load_positions(Path(path), shard_id)
        if choice.sparse_opt:
            self.load_sparse_optim()

    def load_dense_params(self, ckpt_dir: str, strict: bool = True) -> None:
        """Load model.pt of a checkpoint's directory into the model."""
        self._model.load_state_dict(read_plain(Path(ckpt_dir) / "model.pt"), strict=strict)

    def load_sparse_params(self, ckpt_dir: str) -> None:
        """Load tables, and their optimizer's numbers, of a checkpoint's directory."""
        Loader(Path(ckpt_dir), *self._all_tables()).load()

    def load_extra_params(self, ckpt_dir: str, load_io: bool, shared_id: int = 0) -> None:
        """Load registered objects; with load_io a shard's positions of data sets, too."""
        if self._extra:
            self._load_extra(Path(ckpt_dir))
        if load_io and self._io_state:
            self._load_positions(Path(ckpt_dir), shared_id)

    def load_sparse_optim(self) -> None:
        """Let the sparse optimizer take the numbers that load_sparse_params read."""
        if self._sparse_optim is not None:
            self._sparse_optim.load_state_dict(self._sparse_optim_state)

    def _load_extra(self, path: Path) -> None:
        found = read_plain(path / "extra.pt")
        for name, value in list(self._extra.items()):
            if name not in found:
                logger.warning_rank0("%s has no %r; it stays as it is", path / "extra.pt", name)
            elif hasattr(value, "load_state_dict"):
                value.load_state_dict(found[name])
            else:
                self._extra[name] = found[name]

    def _load_positions(self, path: Path, shard: int) -> None:
        if not (path / "io_state_count").exists():
            logger.warning_rank0("%s has no positions of data sets; they begin anew", path)
            return
        count, positions = int((path / "io_state_count").read_text()), read_plain(path / f"io_state_{shard}.pt")
        for name, data in self._io_state.items():
            if count != data._worker_num:
                raise ValueError(
                    f"{path} has positions of {count} workers; data set {name!r} is read by {data._worker_num}. "
                    '"exclude": ["io_state"] begins the data anew.'
                )
            data.load_io_state(positions.get(name))


def _register(there: dict[str, Any], name: str, obj: Any) -> None:
    if name in there:
        raise ValueError(f"{name!r} is registered already.")
    there[name] = obj


def _state(value: Any) -> Any:
    return value.state_dict() if hasattr(value, "state_dict") else value


def _made_anew(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    make_directory(path)
    sync_directory(path.parent)
