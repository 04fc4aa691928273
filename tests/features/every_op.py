"""A feature of each op, the columns that it reads, and a fit: the cases of definitions, properties and verbs."""

from __future__ import annotations

from typing import Any

import torch

from recis_core.features import (
    Bucketize,
    Combine,
    Custom,
    Feature,
    FeatureCross,
    FeatureEngine,
    FillNull,
    Hash,
    IDMultiHash,
    Lookup,
    Mod,
    Normalize,
    Quantile,
    SelectField,
    SelectFields,
    SequenceTruncate,
    StringMultiHash,
    Vocabulary,
)
from recis_core.ragged import RaggedTensor
from tests.features.columns import feature

WORDS = [
    "",
    "a",
    "red",
    "green",
    "blue",
    "ünïcödé",
    "a longer text of more than sixty-four bytes, to reach the last loop of all",
]


def halves(value: Any) -> Any:
    """Custom's function: whole halves."""
    return value.with_values(value.values() // 2)


FUNCTIONS = {("halves", 2): halves}


def every_op() -> list[Feature]:
    """Each op at least once, several twice with other arguments, so that a fused call has several columns."""
    return [
        feature("mod", "ids", Mod(1000)),
        feature("mod_prime", "ids", Mod(7919)),
        feature("bucket", "price", Bucketize([-1.0, 0.1, 2.5])),
        feature("bucket_ints", "ids", Bucketize([0, 1000])),
        feature("farm", "words", Hash("farm")),
        feature("murmur", "words", Hash("murmur"), Mod(97)),
        feature("multi", "ids", IDMultiHash([100, 1000])),
        feature("strings", "ids", StringMultiHash([100, 10, 7], "x_")),
        feature("cut", "ids", SequenceTruncate(2)),
        feature("cut_right", "weighted", SequenceTruncate(1, truncate_side="right")),
        feature("cut_sessions", "sessions", SequenceTruncate(2, n_dims=3)),
        feature("cross", ["ids", "user"], FeatureCross(), Mod(50)),
        feature("words_vocabulary", "words", Vocabulary(WORDS[1:5], oov_buckets=3)),
        feature("ids_vocabulary", "ids", Vocabulary([5, -7, 1 << 60], oov_buckets=0)),
        Feature("quantile").add_op(SelectField("price", torch.float32)).add_op(FillNull(0.5)).add_op(Quantile(8)),
        feature("quantile_of_score", "price", Normalize(log1p=True, zscore=True, clip=[-2, 2]), Quantile(4, 16)),
        feature("filled", "ids", FillNull(-1, null=5)),
        feature("combined", ["user", "ids", "weighted"], Combine(1 << 20)),
        feature("combined_users", ["user", "user"], Combine()),
        feature("map", ["keys", "map_values"], Lookup(3, -1.0)),
        feature("map_rows", ["keys", "map_values"], Lookup(4)),
        feature("map_wanted", ["keys", "map_values", "ids"], Lookup(default=0.25)),
        feature("halves", "ids", Custom("halves", 2, halves)),
        Feature("chosen").add_op(SelectFields(["user"])).add_op(Custom("first", 1, lambda columns: columns[0])),
    ]


def batch(B: int, seed: int) -> dict[str, Any]:
    """Columns of B rows: empty rows, repeated ids, ids of all 64 bits, NaN."""
    g = torch.Generator().manual_seed(seed)
    some = torch.tensor([5, -7, 1 << 60, 0, -(1 << 63), (1 << 63) - 1, 12, 13])

    def rows(longest: int = 3) -> torch.Tensor:
        return torch.cat([torch.zeros(1, dtype=torch.int64), torch.randint(longest + 1, (B,), generator=g).cumsum(0)])

    def ids(N: int) -> torch.Tensor:
        return some[torch.randint(len(some), (N,), generator=g)]

    price = torch.randn(B, generator=g)
    price[torch.rand(B, generator=g) < 0.1] = float("nan")
    bounds, weighted, keys, outer = rows(), rows(), rows(4), rows()
    inner = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randint(3, (int(outer[-1]),), generator=g).cumsum(0)])
    return {
        "ids": RaggedTensor(ids(int(bounds[-1])), bounds),
        "weighted": RaggedTensor(ids(int(weighted[-1])), weighted, torch.rand(int(weighted[-1]), generator=g)),
        "user": torch.randint(-(1 << 40), 1 << 40, (B,), generator=g),
        "price": price,
        "words": _words(rows(), g),
        "sessions": RaggedTensor(ids(int(inner[-1])), [outer, inner]),
        "keys": RaggedTensor(torch.randint(6, (int(keys[-1]),), generator=g), keys),
        "map_values": RaggedTensor(torch.rand(int(keys[-1]), generator=g, dtype=torch.float64), keys),
    }


def _words(bounds: torch.Tensor, g: torch.Generator) -> RaggedTensor:
    chosen = [WORDS[n].encode() for n in torch.randint(len(WORDS), (int(bounds[-1]),), generator=g).tolist()]
    inner = torch.tensor([0, *map(len, chosen)]).cumsum(0)
    return RaggedTensor(torch.tensor(list(b"".join(chosen)), dtype=torch.uint8), [bounds, inner])


def fitted_engine(features: list[Feature] | None = None) -> FeatureEngine:
    return FeatureEngine(every_op() if features is None else features).fit([batch(64, seed) for seed in range(3)])
