"""Occurrences of ids in a fixed number of bytes: a counting Bloom filter with conservative update.

A key has HASHES cells; its estimate is their least count: never too low, too high if all its cells are shared. An
occurrence raises only the lowest cells. Keys share cells, so no key can be removed; instead all counts can be halved
every few steps.

Expected share of n keys, each seen once, whose estimate is above 1: (1 − e^(−HASHES·n/m))^HASHES with m cells.

Bloom 1970; conservative update: Estan & Varghese 2002, "New Directions in Traffic Measurement and Accounting", §4.2.

Sizes: U unique keys, m cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import placement

HASHES = 4


class BloomCounter:
    """Counts up to `most`, in one byte a cell if `most` fits, else in two.

    Args:
      size: bytes. halve_every: steps; 0 never.
    """

    overflow = 0

    def __init__(self, uids: tuple[int, ...], size: int, most: int, halve_every: int) -> None:
        kind = np.uint8 if most <= np.iinfo(np.uint8).max else np.uint16
        self.uids, self.most, self.halve_every = np.array(uids, np.uint32), most, halve_every
        self.cells: Any = np.zeros(size // np.dtype(kind).itemsize, kind)
        self._halved = 0

    def age(self, step: int) -> None:
        """Halve counts as often as is due by this step."""
        due = step // self.halve_every if self.halve_every else 0
        self.cells = self.cells >> min(max(due - self._halved, 0), 15)
        self._halved = max(due, self._halved)

    def add(self, ids: Tensor, ordinals: Tensor, counts: Tensor) -> Tensor:
        """int64 [U]: estimated occurrences of unique keys so far, with `counts`, at most `most`."""
        at = self._places(ids.numpy(), self.uids[ordinals.numpy()])
        seen = np.minimum(self.cells[at].min(1).astype(np.int64) + counts.numpy(), self.most)
        np.maximum.at(self.cells, at, seen.astype(self.cells.dtype)[:, None])
        return torch.from_numpy(seen)

    def _places(self, ids: np.ndarray, uids: np.ndarray) -> np.ndarray:
        """Cells int64 [U, HASHES], all from two hash words. Kirsch & Mitzenmacher 2006."""
        _, a, b = (word.astype(np.uint64)[:, None] for word in placement.hash_words(ids, uids))
        wide = (a << np.uint64(32)) | b
        step = (b << np.uint64(32)) | (a | np.uint64(1))
        with np.errstate(over="ignore"):
            mixed = wide + step * np.arange(HASHES, dtype=np.uint64)
        return (mixed % np.uint64(len(self.cells))).astype(np.int64)

    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        """Does nothing: keys share cells."""

    def clear(self, ordinals: Tensor) -> None:
        """Clear all cells if `ordinals` are all logical tables; else nothing, for they share cells."""
        if len(ordinals) == len(self.uids):
            self.cells = np.zeros_like(self.cells)

    def __len__(self) -> int:
        return int(np.count_nonzero(self.cells))

    def state(self) -> dict[str, Any]:
        """For saved states; another rank can merge it."""
        return {"kind": "bloom", "halved": self._halved, "cells": torch.from_numpy(self.cells.view(np.uint8).copy())}

    def load_state(self, state: dict[str, Any]) -> None:
        self.cells = state["cells"].numpy().view(self.cells.dtype).copy()
        self._halved = state["halved"]

    def merge(self, state: dict[str, Any]) -> None:
        """Merge another rank's cells: the higher count of each, so that no estimate is too low.

        A filter of another size is ignored; its keys are counted anew.
        """
        theirs = state["cells"].numpy().view(self.cells.dtype)
        if len(theirs) == len(self.cells):
            np.maximum(self.cells, theirs, out=self.cells)
            self._halved = max(self._halved, state["halved"])
