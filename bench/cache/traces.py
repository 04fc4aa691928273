"""Which ids a training run asks for, call by call.

click-log      its 26 categorical fields as they come: a row may leave one empty
click-log-39   its 13 numbers are ids, too, and so is an empty field; what bench.cache.run.PEER was simulated on
zipf-drift     Zipf(1.05), its ranks moving to other ids as time goes; all fields share a table

Sizes: F fields, B rows of a batch, V ids of a vocabulary, N ids of a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from recis_core.backends import LookupCall, Request
from recis_core.bench.cases import ids_of, zipf_ranks
from recis_core.bench.exchange.workloads import CLICK_LOG
from recis_core.io import OrcDataset
from recis_core.ragged import RaggedTensor

FIELDS = 26
EMPTY = -1
NUMBERS = 13
TRACES = ("click-log", "click-log-39", "zipf-drift")
ALPHA = 1.05
VOCABULARY = 1_000_000
MOVES = 0.01  # of the vocabulary's ranks, each batch, that go to other ids

Batch = dict[str, RaggedTensor]


@dataclass(frozen=True)
class Trace:
    """Batches of single-hot fields."""

    name: str
    rows: int  # B
    batches: list[Batch]

    @property
    def fields(self) -> list[str]:
        return list(self.batches[0])

    @property
    def shared(self) -> bool:
        """Whether all fields share one logical table; else each has its own. Storage is one in any case."""
        return self.name == "zipf-drift"

    def calls(self) -> list[LookupCall]:
        """What the table is asked for."""
        return [self._call(batch) for batch in self.batches]

    def _call(self, batch: Batch) -> LookupCall:
        ids = torch.cat([ragged.values() for ragged in batch.values()])
        requests = tuple(Request("sum", ragged.offsets()[0]) for ragged in batch.values())
        ordinals = tuple(0 if self.shared else k for k in range(len(batch)))
        return LookupCall(ids, tuple(len(r.values()) for r in batch.values()), ordinals, requests)


def trace(name: str, rows: int, batches: int, seed: int) -> Trace:
    """batches: of "zipf-drift"; the click log is as long as it is."""
    read = {
        "click-log": lambda: _click_log(rows),
        "click-log-39": lambda: _click_log_39(rows),
        "zipf-drift": lambda: _zipf_drift(rows, batches, seed),
    }[name]
    return Trace(name, rows, list(read()))


def _click_log(rows: int) -> Iterator[Batch]:
    dataset, fields = _dataset(rows)
    for batch in dataset:
        yield {name: batch[name] for name in fields}


def _click_log_39(rows: int) -> Iterator[Batch]:
    dataset, fields = _dataset(rows)
    numbers = [f"i{k}" for k in range(1, NUMBERS + 1)]
    for name in numbers:
        dataset.fixedlen_feature(name, default_value=[float(EMPTY)])
    for batch in dataset:
        yield {name: _whole(batch[name].double().view(torch.int64).reshape(-1)) for name in numbers} | {
            name: _filled(batch[name]) for name in fields
        }


def _dataset(rows: int) -> tuple[OrcDataset, list[str]]:
    dataset, fields = OrcDataset(rows, prefetch=0, drop_remainder=True), [f"c{k}" for k in range(1, FIELDS + 1)]
    dataset.add_path(CLICK_LOG / "*.orc")
    for name in fields:
        dataset.varlen_feature(name)
    return dataset, fields


def _whole(ids: torch.Tensor) -> RaggedTensor:
    return RaggedTensor(ids, torch.arange(len(ids) + 1))


def _filled(ragged: RaggedTensor) -> RaggedTensor:
    """Empty rows hold one id."""
    present = ragged.offsets()[0].diff() > 0
    ids = torch.full((len(present),), EMPTY, dtype=torch.int64)
    ids[present] = ragged.values()
    return _whole(ids)


def _zipf_drift(rows: int, batches: int, seed: int) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    id_of_rank = rng.permutation(VOCABULARY)
    for _ in range(batches):
        moved = rng.choice(VOCABULARY, int(MOVES * VOCABULARY), replace=False)
        id_of_rank[moved] = np.roll(id_of_rank[moved], 1)
        ids = ids_of(torch.from_numpy(id_of_rank[zipf_ranks(rng, ALPHA, VOCABULARY, rows * FIELDS)]))
        yield {f"c{k + 1}": _whole(part) for k, part in enumerate(ids.split(rows))}
