"""Batches of one feature for training in tiers: random ids, the click log, and a log of a planted truth.

Every batch holds N ids in as many bags, so that jax compiles one program for all.

Sizes: N ids.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from functools import cache
from itertools import islice

import numpy as np
import torch
from pyarrow import orc

from recis_core.io import SyntheticClicks
from tests.parity.click_log import click_log
from tests.training.loop import Batch

N = 32
IDS = 4_000  # of the random ones
COLUMNS = ["c1", "c5", "c14"]  # of the click log: lists and single ids, few and many


def batches_of(kind: str, steps: int) -> list[Batch]:
    """kind: random, clicks or planted. Skips the test where the click log is asked for and missing."""
    return [{"f": torch.from_numpy(ids)} for ids in islice(_KINDS[kind](), steps)]


def _random() -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    while True:
        yield (random.random(N) ** 3 * IDS).astype(np.int64) - IDS // 4


def _clicks() -> Iterator[np.ndarray]:
    return _cut(iter([_log()]))


@cache
def _log() -> np.ndarray:
    """Ids row by row, hashed as they come."""
    rows = orc.read_table(sorted(glob.glob(click_log()))[0], columns=COLUMNS).slice(0, 9_000).to_pydict()
    return np.array([i for row in zip(*rows.values(), strict=True) for bag in row for i in bag], np.int64)


def _planted() -> Iterator[np.ndarray]:
    log = SyntheticClicks("small")
    fields = [field.name for field in log.preset.fields]
    while True:
        for start in range(0, 1 << 40, 64):
            batch = log.batch(start, 64)
            yield from _cut(iter([np.concatenate([batch[f].values().numpy() for f in fields])]))


def _cut(runs: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for run in runs:
        for beg in range(0, len(run) - N + 1, N):
            yield run[beg : beg + N]


_KINDS = {"random": _random, "clicks": _clicks, "planted": _planted}
