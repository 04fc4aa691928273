"""A click log's 39 columns: 13 lists of floats into intervals, 26 lists of ids hashed, and four crosses, in one engine.

Beside it the same by pandas, and by torch, on the same columns in their own form: plain arrays with a value a row, which a
user of those would have read. Sizes: n rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from recis_core.bench.cases import zipf_ranks
from recis_core.bench.features.case import LOOPS, TORCH, Case, in_plain_torch
from recis_core.features import Bucketize, Combine, Feature, FeatureCross, FeatureEngine, Mod, SelectField, SelectFields
from recis_core.io import OrcDataset
from recis_core.ragged import RaggedTensor

NUMBERS, IDS = [f"i{k}" for k in range(1, 14)], [f"c{k}" for k in range(1, 27)]
CROSSES = [("c1", "c2"), ("c3", "c4"), ("c5", "c6"), ("c7", "c8")]
BOUNDARIES = [-1.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 4096.0]
BUCKETS = 1 << 20


def engine() -> FeatureEngine:
    numbers = [Feature(f"f_{n}").add_op(SelectField(n, torch.float32)).add_op(Bucketize(BOUNDARIES)) for n in NUMBERS]
    ids = [Feature(f"f_{name}").add_op(SelectField(name)).add_op(Combine(BUCKETS)) for name in IDS]
    crosses = [
        Feature(f"{x}_{y}").add_op(SelectFields([x, y])).add_op(FeatureCross()).add_op(Mod(BUCKETS)) for x, y in CROSSES
    ]
    return FeatureEngine([*numbers, *ids, *crosses])


def read(folder: Path, rows: int) -> dict[str, RaggedTensor]:
    """Up to so many rows of the log's files."""
    dataset = OrcDataset(rows)
    dataset.add_path(folder / "*.orc")
    for name in [*NUMBERS, *IDS]:
        dataset.varlen_feature(name)
    return {name: column for name, column in next(iter(dataset)).items() if name in (*NUMBERS, *IDS)}


def synthetic(n: int, seed: int) -> dict[str, RaggedTensor]:
    """Columns of its shape: a value a row, an id in ten missing."""
    rng = np.random.default_rng(seed)
    columns = {}
    for k, name in enumerate([*NUMBERS, *IDS]):
        bounds = torch.from_numpy(np.concatenate([[0], (rng.random(n) > 0.1).cumsum()]))
        N = int(bounds[-1])
        floats = rng.lognormal(1, 2, N).astype(np.float32)
        values = floats if name in NUMBERS else zipf_ranks(rng, 1.05, 10 ** (1 + k % 6), N) * 7_919
        columns[name] = RaggedTensor(torch.from_numpy(values), bounds)
    return columns


def case(data: dict[str, RaggedTensor], where: str, batch: int) -> Case:
    """The columns in batches of so many rows."""
    n = len(data["c1"])
    batches = [cut(data, start, min(start + batch, n)) for start in range(0, n, batch)]
    features, frames = engine(), [_frame(part) for part in batches]
    ways: dict[str, Any] = {
        LOOPS: lambda: [features(part, False) for part in batches],
        TORCH: lambda: in_plain_torch(lambda: [features(part, False) for part in batches]),
        "pandas, a value a row": lambda: [_of_pandas(frame) for frame in frames],
        "torch, a value a row": lambda: [_of_torch(frame) for frame in frames],
    }
    run = {name: (lambda way=way: _lengths(way())) for name, way in ways.items()}
    size = sum(column.values().nbytes for column in data.values())
    return Case(f"39 columns of {where}, batches of {batch:,}", n, size, run)


def cut(data: dict[str, RaggedTensor], begin: int, end: int) -> dict[str, RaggedTensor]:
    parts = {}
    for name, column in data.items():
        (bounds,) = column.offsets()
        first, last = int(bounds[begin]), int(bounds[end])
        parts[name] = RaggedTensor(column.values()[first:last], bounds[begin : end + 1] - first)
    return parts


def _lengths(results: list[Any]) -> int:
    """How many features came, for all ways have answers of their own."""
    return sum(map(len, results))


def _frame(part: dict[str, RaggedTensor]) -> dict[str, Any]:
    return {name: column.to_dense(0)[:, 0].numpy() for name, column in part.items()}


def _of_pandas(frame: dict[str, Any]) -> list[Any]:
    out = [np.digitize(frame[name], BOUNDARIES) for name in NUMBERS]
    out += [pd.util.hash_array(frame[name]) % BUCKETS for name in IDS]
    pairs = [pd.DataFrame({x: frame[x], y: frame[y]}) for x, y in CROSSES]
    return out + [pd.util.hash_pandas_object(pair, index=False).to_numpy() % BUCKETS for pair in pairs]


def _of_torch(frame: dict[str, Any]) -> list[Any]:
    columns = {name: torch.from_numpy(column) for name, column in frame.items()}
    bounds = torch.tensor(BOUNDARIES)
    out = [torch.bucketize(columns[name], bounds, right=True) for name in NUMBERS]
    out += [(columns[name] * 0x9E3779B1) % BUCKETS for name in IDS]
    return out + [(columns[x] * 0x9E3779B1 + columns[y] * 0x85EBCA77) % BUCKETS for x, y in CROSSES]
