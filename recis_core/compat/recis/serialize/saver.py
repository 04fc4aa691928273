"""Tables and tensors into a directory, in RecIS's format."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from recis_core.compat.recis.serialize.blocks import WriteBlock, blocks_of, by_table
from recis_core.compat.recis.serialize.shards import dealt, on_all_ranks, require_ranks
from recis_core.durable import make_directory, sync_directory
from recis_core.serialize.imports import RecisShard, finish_recis_checkpoint, write_recis_shard
from recis_core.serialize.imports.recis_checkpoint import FILE, INDEX
from recis_core.urls import local_path


class Saver:
    """Writes the rows of all ranks, and tensors of shard 0.

    Args:
      shard_index, shard_num: this rank and how many; with several `save` is collective.
      parallel: files of each shard.
      path: a directory; what a checkpoint has there is replaced.
      hashtables: {name: table}, from split_sparse_dense_state_dict.
      filter_func: gets the list of blocks to write, and gives those that are written.

    Raises:
      RecisError: the process group has another number of ranks.

    As recis.serialize.Saver.
    """

    def __init__(
        self,
        shard_index: int = 0,
        shard_num: int = 1,
        parallel: int = 8,
        path: str | os.PathLike[str] = ".",
        hashtables: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        filter_func: Callable[[list[WriteBlock]], list[WriteBlock]] = lambda blocks: blocks,
    ) -> None:
        require_ranks(shard_num)
        self._shard_index, self._shard_num, self._parallel = shard_index, shard_num, parallel
        self._path, self._filter_func = local_path(path, "path"), filter_func
        self._hashtables, self._tensors = hashtables or {}, tensors or {}

    def save(self) -> None:
        """Write aside, then replace: a call that raises leaves an earlier checkpoint as it was.

        Raises:
          ValueError, TypeError: the format cannot hold a name or dtype. OSError: no space, no permission. On all ranks.
        """
        shard, shards = self._shard_index, self._shard_num
        aside = self._path / ".writing"
        blocks = on_all_ranks(shards, lambda: self._prepared(aside))[shard]
        tables, tensors = by_table(blocks)
        mine = dealt(tables, shard, shards)
        wrote = on_all_ranks(
            shards,
            lambda: write_recis_shard(
                aside, mine, tensors if shard == 0 else {}, shard, shards, self._parallel
            ).to_dict(),
        )
        on_all_ranks(shards, lambda: self._finished(aside, wrote) if shard == 0 else None)

    def _prepared(self, aside: Path) -> list[WriteBlock]:
        if self._shard_index == 0:
            shutil.rmtree(aside, ignore_errors=True)
            make_directory(aside)
        return self._filter_func(blocks_of(self._hashtables, self._tensors))

    def _finished(self, aside: Path, wrote: list[dict[str, Any]]) -> None:
        finish_recis_checkpoint(aside, [RecisShard(**one) for one in wrote])
        (self._path / INDEX).unlink(missing_ok=True)  # what follows is no whole checkpoint until the new index is there
        for old in self._path.iterdir():
            if FILE.fullmatch(old.name):
                old.unlink()
        names = [file.name for file in aside.iterdir() if file.name != INDEX]
        for name in [*names, INDEX]:
            os.replace(aside / name, self._path / name)
        aside.rmdir()
        sync_directory(self._path)
