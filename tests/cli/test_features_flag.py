"""recis train --features: a file of features says what the model's inputs are; saved states hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recis_core.cli.feature_batches import FeatureBatches
from recis_core.cli.source import FileSource
from recis_core.cli.taker import ALONE
from recis_core.cli.train_config import TrainConfig
from recis_core.serialize import SavedState, latest_state
from recis_core.serialize.parts import part_of_state
from tests.cli.clicks import TRAIN, clicks, last, run, write

FEATURES = """version: 1
features:
  user: [{SelectField: user}, {Mod: 50}]
  city: [{SelectField: city}, {Vocabulary: {file: cities.txt, oov_buckets: 3}}]
  tags: [{SelectField: tags}, {SequenceTruncate: 2}]
  user_tags: [{SelectFields: [user, tags]}, FeatureCross, {Mod: 500}]
  two: [{SelectField: user}, {IDMultiHash: [100, 30]}]
  x: [{SelectField: {name: x, dtype: float32}}, {FillNull: 0.0}, {Normalize: {zscore: true, clip: [-3, 3]}}]
  x_bucket: [{SelectField: {name: x, dtype: float32}}, {FillNull: 0.0}, {Quantile: 5}]
"""
FIELDS = ["user", "city", "tags", "user_tags", "two_multi_hash_0", "two_multi_hash_1", "x_bucket"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "features.yaml").write_text(FEATURES)
    (tmp_path / "conf" / "cities.txt").write_text("Rome\nOslo\n")
    write(tmp_path, "data.parquet", clicks(1200), row_group_size=300)
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN = ["train", "--data", "data.parquet", "--label", "click", "--features", "conf/features.yaml", *TRAIN]


def saved_features(directory: str) -> dict[str, Any]:
    return dict(part_of_state(SavedState(latest_state(directory)), "extra")["origin"]["features"])


def source(**flags: Any) -> FileSource:
    config = TrainConfig(data="data.parquet", label="click", features="conf/features.yaml", **flags)
    return FileSource(config.data, ALONE)


def test_a_run_is_trained_resumed_evaluated_and_scores(folder: Path, capsys: Any) -> None:
    whole = last(capsys, *RUN, "--save", "whole")
    held = saved_features("whole")
    assert (held["fields"], held["dense"]) == (FIELDS, 1)
    fitted = held["engine"]["features"][-1]["ops"][2]["arguments"]["fitted"]
    assert fitted["count"] == 1080  # the training rows alone
    last(capsys, *RUN[:-2], "--steps", "4", "--save", "part")
    resumed = last(capsys, *RUN, "--resume", "part", "--save", "part")
    assert resumed["tables_sha256"] == whole["tables_sha256"]
    (folder / "conf" / "cities.txt").unlink()  # the state holds the vocabulary
    found = last(capsys, "eval", "--state", "whole", "--data", "data.parquet")
    assert found["rows"] == 1200
    assert (
        last(capsys, "predict", "--state", "whole", "--data", "data.parquet", "--out", "scores.parquet")["rows"] == 1200
    )
    assert pq.read_table("scores.parquet").num_rows == 1200


def not_begun(capsys: Any, *argv: str) -> str:
    """What a run says that ends before its first step."""
    status, _, err = run(capsys, *argv)
    assert status == 1
    return err


def test_other_features_are_refused(folder: Path, capsys: Any) -> None:
    last(capsys, *RUN[:-2], "--steps", "2", "--save", "run")
    (folder / "conf" / "features.yaml").write_text(FEATURES.replace("Quantile: 5", "Quantile: 6"))
    said = not_begun(capsys, *RUN, "--resume", "run", "--save", "run")
    assert "--features differ from the saved run's in 'x_bucket', by arguments or fitted numbers" in said
    said = not_begun(capsys, *RUN, "--init-from", "run")
    assert "other features: --features differ from the saved run's in 'x_bucket'" in said
    plain = [word for word in RUN if word not in ("--features", "conf/features.yaml")]
    assert "the saved run was with --features, this one is without" in not_begun(
        capsys, *plain, "--resume", "run", "--save", "run"
    )
    (folder / "conf" / "features.yaml").write_text(FEATURES)
    (folder / "conf" / "cities.txt").write_text("Oslo\nRome\n")
    assert "in 'city'" in not_begun(capsys, *RUN, "--resume", "run", "--save", "run")


def test_batches_are_the_engines(folder: Path) -> None:
    found = source()
    assert isinstance(found._reader, FeatureBatches)
    (batch,) = list(found.train_batches(2000))
    assert list(batch) == [*FIELDS, "label", "dense"]
    assert batch["dense"].shape == (1080, 1)
    assert abs(float(batch["dense"].mean())) < 0.1
    assert batch["city"].values().max() < 5
    assert batch["tags"].lengths().max() == 2


WRONG = [
    ("- 1", {}, "conf/features.yaml: the file must hold version and features"),
    (FEATURES.replace("SelectField: user}", "SelectField: absent}"), {}, "data.parquet has no column 'absent' for --features"),
    (FEATURES.replace("SelectField: user}", "SelectField: click}"), {}, "--label or --truth reads 'click', and so does"),
    ("version: 1\nfeatures: {x: [{SelectField: {name: x, dtype: float32}}]}", {}, "at least one feature must give ids"),
    (FEATURES.replace("{FillNull: 0.0}, {Normalize", "{Normalize"), {}, None),
    (FEATURES + "  raw: [{SelectField: {name: city, dtype: uint8}}]\n", {}, "feature 'raw' gives text, .* Hash or Vocabulary"),
    (FEATURES.replace("SelectField: tags}", "SelectField: x}"), {}, "field 'x' is wanted as"),
    (FEATURES, {"id_columns": ("x",)}, "--id-columns names 'x', which no feature reads as integers"),
    (FEATURES, {"columns": ("x",)}, "--columns chooses columns, and so does --features"),
    (FEATURES, {"dense_columns": ("x",)}, "--dense-columns chooses columns, and so does --features"),
]  # fmt: skip


def test_what_is_refused(folder: Path) -> None:
    for text, flags, said in WRONG:
        (folder / "conf" / "features.yaml").write_text(text)
        if said is None:  # an empty row gives no number, and 0 is taken
            source(**flags)
            continue
        with pytest.raises((TypeError, ValueError), match=said):
            source(**flags)
    with pytest.raises(ValueError, match="--features goes with --data"):
        TrainConfig(preset="tiny", features="conf/features.yaml")
    with pytest.raises(FileNotFoundError, match="--features no.yaml names no file"):
        TrainConfig(data="data.parquet", label="click", features="no.yaml").check_here()


def test_nan_is_no_dense_input(folder: Path) -> None:
    frame = clicks(300)
    frame["x"] = frame["x"].where(frame["x"] < 0)
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), "data.parquet")
    table = pq.read_table("data.parquet")
    nan = pa.array([float("nan")] * 300, pa.float64())
    pq.write_table(table.set_column(table.column_names.index("x"), "x", nan), "data.parquet")
    text = "version: 1\nfeatures: {user: [{SelectField: user}], x: [{SelectField: {name: x, dtype: float32}}]}"
    (folder / "conf" / "features.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"feature 'x' gives \[nan\] in row 0 of a batch; FillNull replaces NaN"):
        source()


def test_lists_of_floats_have_one_length(folder: Path) -> None:
    frame = clicks(300)
    frame["pair"] = [[1.0, 2.0] if n < 200 else [] for n in range(300)]
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), "data.parquet")
    text = "version: 1\nfeatures: {user: [{SelectField: user}], pair: [{SelectField: {name: pair, dtype: float32}}]}"
    (folder / "conf" / "features.yaml").write_text(text)
    found = source(test_fraction=0.3)
    assert found.dense == 2
    shapes = [batch["dense"].shape for batch in (*found.train_batches(100), *found.test_batches())]
    assert shapes == [(100, 2), (100, 2), (10, 2), (90, 2)]  # rows from 200 on are all empty
    frame["pair"] = [[1.0, 2.0] if n < 250 else [1.0, 2.0, 3.0] for n in range(300)]
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), "data.parquet")
    with pytest.raises(ValueError, match="feature 'pair' gives rows of several lengths"):
        source()
