"""An engine on files: it declares its columns, is fitted on a data set, and maps its batches."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recis_core.features import (
    Combine,
    Feature,
    FeatureCross,
    FeatureEngine,
    Hash,
    Lookup,
    Mod,
    Normalize,
    Quantile,
    SelectField,
    SelectFields,
    Vocabulary,
)
from recis_core.io import OrcDataset, ParquetDataset
from tests.features.columns import bits, feature, listed

LOG = Path(os.environ.get("RECIS_CLICK_LOG", Path(__file__).parents[3] / "shared" / "data" / "click-log"))


def engine() -> FeatureEngine:
    price = Feature("price").add_op(SelectField("price", torch.float32)).add_op(Normalize(zscore=True))
    scores = SelectFields(["scores.keys", SelectField("scores.values", torch.float32)])
    return FeatureEngine(
        [
            price.add_op(Quantile(3)),
            feature("item", "item", Mod(100)),
            feature("colour", "colour", Vocabulary(["red", "green"])),
            feature("hashed", "colour", Hash("farm"), Mod(50)),
            feature("cross", ["item", "user"], FeatureCross(), Mod(1000)),
            Feature("score").add_op(scores).add_op(Lookup("a", -1.0)),
        ]
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    n = 50
    columns = {
        "user": list(range(n)),
        "item": [list(range(k % 3)) for k in range(n)],
        "price": pa.array([None if k % 10 == 0 else float(k) for k in range(n)], pa.float32()),
        "colour": [["red"] if k % 2 else ["blue", "green"] for k in range(n)],
        "scores": pa.array(
            [[("a", float(k)), ("b", 1.0)] if k % 3 else [("b", 2.0)] for k in range(n)],
            pa.map_(pa.string(), pa.float32()),
        ),
    }
    pq.write_table(pa.table(columns), tmp_path / "data.parquet", row_group_size=17)
    return tmp_path / "data.parquet"


def opened(features: FeatureEngine, file: Path, batch_size: int) -> ParquetDataset:
    dataset = ParquetDataset(batch_size)
    dataset.add_path(file)
    features.read_by(dataset)
    return dataset


def test_fit_and_map(file: Path) -> None:
    features = engine()
    dataset = opened(features, file, 8)
    before = dataset.state_dict()
    features.fit(dataset)
    assert dataset.state_dict() == before
    assert features.digest() == engine().fit(opened(engine(), file, 50)).digest()
    batches = list(dataset.map(features))
    assert sum(len(batch["item"]) for batch in batches) == 50
    assert listed(batches[0]["colour"])[:2] == [[2, 1], [0]]
    assert batches[0]["score"].tolist() == [-1, 1, 2, -1, 4, 5, -1, 7]
    assert listed(batches[0]["price"])[:2] == [[], [0]]  # a null is no value


def test_an_engines_definition_on_other_batches_is_the_same(file: Path) -> None:
    features = engine().fit(opened(engine(), file, 50))
    again = FeatureEngine.from_dict(features.to_dict())
    (whole,) = list(opened(features, file, 50))
    assert bits(again(whole)) == bits(features(whole))


@pytest.mark.skipif(
    not list(LOG.glob("*.orc")), reason="no click log: set RECIS_CLICK_LOG to a folder of its ORC files"
)
def test_the_click_log() -> None:
    numbers = [Feature(f"i{k}").add_op(SelectField(f"i{k}", torch.float32)) for k in range(1, 14)]
    for column in numbers:
        column.add_op(Normalize(log1p=True, zscore=True)).add_op(Quantile(16))
    ids = [feature(f"c{k}", f"c{k}", Combine(1 << 20)) for k in range(1, 27)]
    features = FeatureEngine([*numbers, *ids, feature("cross", ["c1", "c2"], FeatureCross(), Mod(1 << 20))])
    dataset = OrcDataset(4096)
    dataset.add_path(LOG / "part-0.orc")
    features.read_by(dataset)
    features.fit(dataset)
    (batch, *_) = list(dataset)
    out = features(batch, False)
    assert len(out) == 40
    os.environ["RECIS_BACKEND"], before = "torch", os.environ.get("RECIS_BACKEND")
    try:
        assert bits(features(batch, False)) == bits(out)
    finally:
        os.environ.pop("RECIS_BACKEND") if before is None else os.environ.update(RECIS_BACKEND=before)
    for column in out.values():
        assert column.values().min() >= 0
