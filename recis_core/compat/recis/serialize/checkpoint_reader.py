"""Tensors of a checkpoint by name."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from recis_core.serialize.imports import RecisCheckpoint


class CheckpointReader:
    """A table's slot is "table@slot", with the rows of all shards; a plain tensor has its own name.

    Raises:
      FileNotFoundError, CorruptCheckpoint: there is no whole checkpoint.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.reader = RecisCheckpoint(path)

    def tensor_names(self) -> list[str]:
        return self.reader.tensor_names()

    def read_tensor(self, name: str) -> Tensor:
        """Raises KeyError: there is no such tensor."""
        return self.reader.read_tensor(name)

    def tensor_shape(self, name: str) -> list[int]:
        return list(self.reader.tensor_shape(name))

    def tensor_dtype(self, name: str) -> torch.dtype:
        return self.reader.tensor_dtype(name)
