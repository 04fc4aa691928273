"""Each op on one column, beside what its user writes in pandas, Arrow's compute functions, numpy or torch.

Sizes: n rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recis_core.bench.cases import zipf_ranks
from recis_core.bench.features.case import Case, ours
from recis_core.features import (
    Bucketize,
    Combine,
    FeatureCross,
    FillNull,
    Hash,
    IDMultiHash,
    Lookup,
    Mod,
    Normalize,
    Quantile,
    SequenceTruncate,
    StringMultiHash,
    Vocabulary,
)
from recis_core.ragged import RaggedTensor

BOUNDARIES = np.linspace(-2, 2, 31, dtype=np.float32)
ENTRIES = 100_000


class Columns:
    """n rows of each kind of column."""

    def __init__(self, n: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.n = n
        self.ranks = zipf_ranks(rng, 1.05, 2 * ENTRIES, n)
        self.ids = torch.from_numpy(self.ranks * 7_919 - (1 << 40))
        self.others = torch.from_numpy(rng.integers(-(1 << 62), 1 << 62, n))
        self.floats = torch.from_numpy(rng.normal(size=n).astype(np.float32))
        self.holes = self.floats.where(torch.from_numpy(rng.random(n) > 0.1), torch.nan)
        lengths = rng.integers(0, 5, n)
        self.offsets = torch.from_numpy(np.concatenate([[0], lengths.cumsum()]))
        self.values = torch.from_numpy(rng.integers(0, 50, int(self.offsets[-1])))
        self.scores = torch.from_numpy(rng.normal(size=len(self.values)))
        self.texts = [f"item/{rank:x}/colour-{rank % 977}" for rank in self.ranks.tolist()]

    @property
    def rows(self) -> RaggedTensor:
        return RaggedTensor(self.values, self.offsets)

    def arrow_lists(self, values: Tensor) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(self.offsets.numpy().astype(np.int32)), pa.array(values.numpy()))


def text_column(texts: list[str]) -> RaggedTensor:
    """One text a row."""
    array = pa.array(texts, pa.large_string())
    _, bounds, content = array.buffers()
    offsets = torch.from_numpy(np.frombuffer(bounds, np.int64)[: len(texts) + 1].copy())
    letters = torch.from_numpy(np.frombuffer(content, np.uint8)[: int(offsets[-1])].copy())
    return RaggedTensor(letters, [torch.arange(len(texts) + 1), offsets])


def cases(n: int, seed: int) -> list[Case]:
    c = Columns(n, seed)
    return [case(c) for case in CASES]


def _mod(c: Columns) -> Case:
    m, unsigned = 1_000_003, pd.Series(c.others.numpy().view(np.uint64))
    return Case(
        "Mod", c.n, 8 * c.n, {**ours(Mod(m), c.others), "pandas uint64 %": lambda: (unsigned % m).to_numpy(np.int64)}
    )


def _bucketize(c: Columns) -> Case:
    op, bounds, series = Bucketize(BOUNDARIES.tolist()), torch.from_numpy(BOUNDARIES), pd.Series(c.floats.numpy())
    peers: dict[str, Callable[[], Any]] = {
        "torch.bucketize": lambda: torch.bucketize(c.floats, bounds, right=True),
        "numpy.digitize": lambda: np.digitize(series, BOUNDARIES),
    }
    return Case("Bucketize, 31 boundaries", c.n, 4 * c.n, {**ours(op, c.floats), **peers})


def _quantile(c: Columns) -> Case:
    edges = np.quantile(c.floats.numpy()[: 1 << 16], np.arange(1, 64) / 64, method="lower").tolist()
    op = Quantile(64, fitted={"count": 1 << 16, "boundaries": edges, "rank_error": 0.0})
    peers = {"pandas.cut": lambda: pd.cut(c.floats.numpy(), [-np.inf, *edges, np.inf], right=False, labels=False)}
    return Case("Quantile, 64 buckets", c.n, 4 * c.n, {**ours(op, c.floats), **peers})


def _normalize(c: Columns) -> Case:
    op = Normalize(log1p=True, zscore=True, clip=[-3, 3], fitted={"count": 9, "mean": 0.1, "std": 0.9})

    def torch_way() -> Tensor:
        x = c.floats.double()
        return (((x.sign() * x.abs().log1p()) - 0.1) / 0.9).clamp(-3, 3).float()

    def numpy_way() -> Any:
        x = c.floats.numpy().astype(np.float64)
        return np.clip((np.sign(x) * np.log1p(np.abs(x)) - 0.1) / 0.9, -3, 3).astype(np.float32)

    return Case("Normalize", c.n, 4 * c.n, {**ours(op, c.floats), "torch": torch_way, "numpy": numpy_way})


def _fill_null(c: Columns) -> Case:
    series, column = pd.Series(c.holes.numpy()), pa.array(c.holes.numpy(), from_pandas=True)
    peers: dict[str, Callable[[], Any]] = {
        "pandas.fillna": lambda: series.fillna(0.5).to_numpy(),
        "pyarrow.fill_null": lambda: pc.fill_null(column, 0.5).to_numpy(),
        "torch.nan_to_num": lambda: torch.nan_to_num(c.holes, nan=0.5),
    }
    return Case("FillNull", c.n, 4 * c.n, {**ours(FillNull(0.5), c.holes), **peers})


def _hash(kind: str) -> Callable[[Columns], Case]:
    def case(c: Columns) -> Case:
        text, series = text_column(c.texts), pd.Series(c.texts, dtype=object)
        peers = {"pandas hash_array": lambda: pd.util.hash_array(series.to_numpy(), categorize=False).view(np.int64)}
        run = {name: (lambda run=run: run().values()) for name, run in ours(Hash(kind), text).items()}
        return Case(f"Hash {kind}", c.n, len(text.values()), {**run, **peers}, frozenset(peers))

    return case


def _vocabulary_of_text(c: Columns) -> Case:
    entries = list(dict.fromkeys(c.texts))[:ENTRIES]
    index, column, known = pd.Index(entries), pa.array(c.texts), pa.array(entries)
    text, series, V = text_column(c.texts), pd.Series(c.texts), len(entries)

    def of_pandas() -> Any:
        found = index.get_indexer(series)
        return np.where(found < 0, V, found)

    peers = {
        "pandas get_indexer": of_pandas,
        "pyarrow.index_in": lambda: pc.fill_null(pc.index_in(column, known), V).to_numpy(),
    }
    run = {n: (lambda run=run: run().values()) for n, run in ours(Vocabulary(entries), text).items()}
    return Case(f"Vocabulary, {V:,} texts", c.n, len(text.values()), {**run, **peers})


def _vocabulary_of_ids(c: Columns) -> Case:
    entries = c.ids.unique()[:ENTRIES]
    index, column, known, V = (
        pd.Index(entries.numpy()),
        pa.array(c.ids.numpy()),
        pa.array(entries.numpy()),
        len(entries),
    )

    def of_pandas() -> Any:
        found = index.get_indexer(c.ids.numpy())
        return np.where(found < 0, V, found)

    peers = {
        "pandas get_indexer": of_pandas,
        "pyarrow.index_in": lambda: pc.fill_null(pc.index_in(column, known), V).to_numpy(),
    }
    return Case(f"Vocabulary, {V:,} ids", c.n, 8 * c.n, {**ours(Vocabulary(entries.tolist()), c.ids), **peers})


def _id_multi_hash(c: Columns) -> Case:
    sizes, primes = [100_000] * 4, (2_899_999, 4_699_999, 6_699_979, 8_299_999)
    primes = tuple(_prime(k * 100_000) for k in (29, 47, 67, 83))

    def torch_way() -> list[Tensor]:
        x = c.ids
        return [(torch.fmod(x * m, p) + p) % p % n for m, p, n in zip((1, 3, 5, 7), primes, sizes, strict=True)]

    return Case("IDMultiHash, 4 of them", c.n, 8 * c.n, {**ours(IDMultiHash(sizes), c.ids), "torch": torch_way})


def _prime(most: int) -> int:
    from recis_core.ragged import largest_prime

    return largest_prime(most)


def _string_multi_hash(c: Columns) -> Case:
    series = pd.Series(c.ids.numpy())

    def of_pandas() -> list[Any]:
        texts = series.astype(str).to_numpy(dtype=object)
        return [pd.util.hash_array(texts, categorize=False, hash_key=f"{n:016d}") % 100_000 for n in range(4)]

    op = StringMultiHash([100_000] * 4)
    run = {**ours(op, c.ids), "pandas hash_array of astype(str)": of_pandas}
    return Case("StringMultiHash, 4 of them", c.n, 8 * c.n, run, frozenset({"pandas hash_array of astype(str)"}))


def _truncate(c: Columns) -> Case:
    lists = c.arrow_lists(c.values)

    def of_arrow() -> list[Any]:
        cut = pc.list_slice(lists, 0, 2)
        return [cut.values.to_numpy(), cut.offsets.to_numpy()]

    op = SequenceTruncate(2, truncate_side="right")
    return Case("SequenceTruncate", c.n, 8 * len(c.values), {**ours(op, c.rows), "pyarrow.list_slice": of_arrow})


def _cross(c: Columns) -> Case:
    other = RaggedTensor(c.others, torch.arange(c.n + 1))
    frame = pd.DataFrame({"x": c.values.numpy(), "row": np.repeat(np.arange(c.n), c.offsets.diff().numpy())})
    right = pd.DataFrame({"y": c.others.numpy(), "row": np.arange(c.n)})

    def of_pandas() -> Any:
        both = frame.drop_duplicates().merge(right, on="row")
        return pd.util.hash_pandas_object(both[["x", "y"]], index=False).to_numpy().view(np.int64)

    pair = [c.rows, other]
    run = {name: (lambda run=run: run().values()) for name, run in ours(FeatureCross(), pair).items()}
    run["pandas merge, hash"] = of_pandas
    return Case("FeatureCross", c.n, 8 * (len(c.values) + c.n), run, frozenset({"pandas merge, hash"}))


def _combine(c: Columns) -> Case:
    columns = [c.ids, c.others, c.ids]
    frame = pd.DataFrame({f"x{n}": column.numpy() for n, column in enumerate(columns)})
    name = "pandas hash_pandas_object"
    run = {**ours(Combine(1 << 20), columns), name: lambda: pd.util.hash_pandas_object(frame, index=False) % (1 << 20)}
    return Case("Combine, 3 columns", c.n, 24 * c.n, run, frozenset({name}))


def _lookup(c: Columns) -> Case:
    offsets = pa.array(c.offsets.numpy().astype(np.int32))
    maps = pa.MapArray.from_arrays(offsets, pa.array(c.values.numpy()), pa.array(c.scores.numpy()))
    peer = lambda: pc.fill_null(pc.map_lookup(maps, pa.scalar(7), "first"), -1.0).to_numpy()  # noqa: E731
    value = [c.rows, RaggedTensor(c.scores, c.offsets)]
    return Case("Lookup", c.n, 16 * len(c.values), {**ours(Lookup(7, -1.0), value), "pyarrow.map_lookup": peer})


CASES: tuple[Callable[[Columns], Case], ...] = (
    *(_mod, _bucketize, _quantile, _normalize, _fill_null, _hash("farm"), _hash("murmur"), _vocabulary_of_text),
    *(_vocabulary_of_ids, _id_multi_hash, _string_multi_hash, _truncate, _cross, _combine, _lookup),
)
