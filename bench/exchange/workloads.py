"""Batches whose traffic is counted: the planted-truth log of Criteo's shape, and a click log on disk.

Sizes: B rows of a rank's batch, W ranks.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recis_core.io import OrcDataset, SyntheticClicks
from recis_core.ragged import RaggedTensor

CLICK_LOG = Path(
    os.environ.get("RECIS_CLICK_LOG", Path(__file__).resolve().parents[3] / "shared" / "data" / "click-log")
)
WORKLOADS = ("criteo-shape", "click-log")

Batch = dict[str, Any]


class Workload:
    """Global batches of W · B rows: single-hot fields as RaggedTensors, and "label".

    fields: names of sparse fields. step(seed, number, rank): a rank's B rows, or with rank None all of them.
    """

    def __init__(self, name: str, rows: int, world: int, steps: int) -> None:
        self.name, self.rows, self.world, self.steps = name, rows, world, steps
        self.fields = [f"c{k}" for k in range(1, 27)]
        self._kept: dict[int, list[Batch]] = {}

    def step(self, seed: int, number: int, rank: int | None = None) -> Batch:
        if seed not in self._kept:
            read = self._synthetic if self.name == "criteo-shape" else self._click_log
            self._kept[seed] = [_single_hot(batch, self.fields) for batch in read(seed)]
        whole = self._kept[seed][number]
        if rank is None:
            return whole
        beg, end = rank * self.rows, (rank + 1) * self.rows
        ids = {name: _part(whole[name], beg, end) for name in self.fields}
        return {"label": whole["label"][beg:end], **ids}

    def _synthetic(self, seed: int) -> Iterator[Batch]:
        """Another seed is another log."""
        clicks, size = SyntheticClicks(self.name, seed), self.rows * self.world
        return (clicks.batch(k * size, size) for k in range(self.steps))

    def _click_log(self, seed: int) -> Iterator[Batch]:
        """Seeds 0, 1, 2 (mod 3) begin at the log's head, in the middle of what is left over, and so as to end with it."""
        size = self.rows * self.world
        dataset = OrcDataset(size, prefetch=0, drop_remainder=True)
        dataset.add_path(CLICK_LOG / "*.orc")
        spare = dataset.rows - self.steps * size
        if spare < 0:
            raise ValueError(f"the click log has {dataset.rows} rows; {self.steps} steps need {self.steps * size}.")
        begin = spare * (seed % 3) // 2
        dataset.window(begin, begin + self.steps * size)
        dataset.fixedlen_feature("label", default_value=[0.0])
        for name in self.fields:
            dataset.varlen_feature(name)
        return itertools.islice(iter(dataset), self.steps)


def missing(name: str) -> str | None:
    """Why a workload cannot run here."""
    if name == "click-log" and not list(CLICK_LOG.glob("*.orc")):
        return f"no ORC files in {CLICK_LOG}; set RECIS_CLICK_LOG to a folder of them"
    return None


def _single_hot(batch: Batch, fields: list[str]) -> Batch:
    """Fields alone, of one id a row or, where the log has none, of no id; and the label, float32 [B]."""
    for name in fields:
        longest = int(batch[name].offsets()[0].diff().max())
        if longest > 1:
            raise ValueError(f"fields must be single-hot; a row of {name} has {longest} ids.")
    return {"label": batch["label"].reshape(-1).float()} | {name: batch[name] for name in fields}


def _part(ragged: RaggedTensor, beg: int, end: int) -> RaggedTensor:
    offsets = ragged.offsets()[0][beg : end + 1]
    return RaggedTensor(ragged.values()[offsets[0] : offsets[-1]], offsets - offsets[0])
