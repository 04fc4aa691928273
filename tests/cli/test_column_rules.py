"""--time-units, --nulls and --weight-columns: what the model gets, what a saved run keeps, what is refused."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recis_core.cli import main
from recis_core.cli.source import FileSource
from recis_core.cli.taker import ALONE
from recis_core.cli.train_config import TrainConfig
from recis_core.io import hash_strings
from tests.cli.clicks import TRAIN, last, refused, run

N = 60
WHEN = [None if n % 7 == 0 else dt.datetime(2026, 1, 1 + n % 9, n % 24, 30) for n in range(N)]


def written(folder: Path, name: str = "x.parquet", **columns: Any) -> str:
    made = {
        "click": [n % 2 for n in range(N)], "user": [None if n % 5 == 0 else n for n in range(N)], "when": WHEN,
        "city": [None if n % 4 == 0 else "Rome" for n in range(N)], "x": [None if n % 3 == 0 else float(n) for n in range(N)],
        "tags": [[n, n + 1] for n in range(N)], "scores": [[0.5, n / 10] for n in range(N)],
    } | columns  # fmt: skip
    path = folder / name
    pq.write_table(pa.table(made), path)
    return str(path)


def batch(path: str, **flags: Any) -> dict[str, Any]:
    config = TrainConfig(data=path, label="click", **{"skip": ("scores",), **flags})
    return next(FileSource(config.data, ALONE).train_batches(N))


def test_times_are_counted_in_a_unit(tmp_path: Path) -> None:
    path = written(tmp_path)
    usual, days, hours = (batch(path, time_units=u)["when"].values() for u in ((), ("when=day",), ("when=hour",)))
    assert usual[0] == int(WHEN[1].replace(tzinfo=dt.UTC).timestamp()) * 10**6  # type: ignore[union-attr]
    assert (days == usual // (86400 * 10**6)).all()
    assert (hours == usual // (3600 * 10**6)).all()


def test_dates_and_timestamps_of_files_go_together_in_a_unit(tmp_path: Path) -> None:
    written(tmp_path)
    written(tmp_path, "y.parquet", when=[dt.date(2026, 1, 1 + n % 9) for n in range(N)])
    assert batch(str(tmp_path), time_units=("when=day",))["when"].values().max() == 20462  # 2026-01-09
    with pytest.raises(TypeError, match="when"):
        batch(str(tmp_path))


def test_nulls_become_what_is_said(tmp_path: Path) -> None:
    path = written(tmp_path)
    rules = ("user=default(-1)", "city=default(no = where)", "x=default(2.5)", "when=drop")
    given, usual = batch(path, nulls=rules), batch(path)
    assert given["user"].lengths().tolist() == [1] * len(given["label"])
    assert usual["user"].lengths().tolist()[:6] == [0, 1, 1, 1, 1, 0]
    assert given["user"].values()[0] == -1
    assert given["city"].values()[0] == hash_strings(["no = where"])[0]
    assert given["dense"][0].item() == pytest.approx(1.2527630)  # log1p(2.5)
    assert usual["dense"][0].item() == 0
    assert given["when"].values().equal(usual["when"].values())


@pytest.mark.parametrize("column", ["city", "x"])
def test_nulls_are_refused(capsys: Any, tmp_path: Path, column: str) -> None:
    path = written(tmp_path)
    said = run(
        capsys, "train", "--data", path, "--label", "click", "--skip", "scores", "--nulls", f"{column}=error", *TRAIN
    )
    assert said[0] == 1
    assert f"column {column!r}" in said[2]
    assert "null" in said[2]


def test_weights_by_another_name(tmp_path: Path) -> None:
    found = batch(written(tmp_path), weight_columns=("tags=scores",), skip=())
    assert found["tags"].weight()[:4].tolist() == pytest.approx([0.5, 0.0, 0.5, 0.1])
    assert found["dense"].shape[1] == 1, "weights are no input of their own"


FEATURES = """version: 1
features:
  tags: [{SelectField: tags}, {Mod: 50}]
  hour: [{SelectField: when}, {Mod: 24}]
  city: [{SelectField: city}]
  x: [{SelectField: {name: x, dtype: float32}}, {Normalize: {log1p: true}}]
"""
RULES = {
    "weight_columns": ("tags=scores",),
    "time_units": ("when=hour",),
    "nulls": ("city=default(none)", "x=default(2.5)"),
}


def test_of_features_too(tmp_path: Path) -> None:
    (tmp_path / "features.yaml").write_text(FEATURES)
    found = batch(written(tmp_path), features=str(tmp_path / "features.yaml"), skip=(), **RULES)
    assert found["tags"].weight()[:4].tolist() == pytest.approx([0.5, 0.0, 0.5, 0.1])
    assert found["hour"].values()[:3].tolist() == [1, 2, 3]
    assert found["city"].values()[0] == hash_strings(["none"])[0]
    assert found["dense"][0].item() == pytest.approx(1.2527630)


@pytest.mark.parametrize("by_features", [False, True])
def test_a_saved_run_keeps_them(capsys: Any, tmp_path: Path, by_features: bool) -> None:
    """Its own test comes again; a run of others is not the same one."""
    (tmp_path / "features.yaml").write_text(FEATURES)
    path, save = written(tmp_path), str(tmp_path / "save")
    args = ["train", "--data", path, "--test-data", path, "--label", "click", *TRAIN]
    args += ["--features", str(tmp_path / "features.yaml")] if by_features else []
    rules = [word for name, values in RULES.items() for word in (f"--{name.replace('_', '-')}", *values)]
    trained = last(capsys, *args, *rules, "--save", save)
    found = last(capsys, "eval", "--state", save, "--data", path, "--backend", "numba")
    assert (found["auc"], found["logloss"]) == (trained["auc"], trained["logloss"])
    assert last(capsys, *args, *rules, "--resume", save)["steps"] == trained["steps"]
    other = [word.replace("when=hour", "when=min").replace("none", "nowhere") for word in rules]
    assert "the saved run read " in run(capsys, *args, *other, "--resume", save)[2]
    status, _, err = run(capsys, *args, *other, "--init-from", save)
    assert (status, "ids of timestamp in hour in when, not of timestamp in min" in err) == (1, True)


WRONG = [
    (
        ["--time-units", "when"],
        "--time-units must read COLUMN=UNIT, a unit of ns, us, ms, s, min, hour, day; got 'when'.",
    ),
    (["--time-units", "when=week"], "got 'when=week'."),
    (["--time-units", "when=s", "when=ms"], "--time-units names 'when' twice."),
    (["--nulls", "x=zero"], "--nulls must read COLUMN=drop, COLUMN=error or COLUMN=default(VALUE); got 'x=zero'."),
    (["--weight-columns", "tags"], "--weight-columns must read COLUMN=WEIGHTS, two columns; got 'tags'."),
    (["--weight-columns", "a=w", "b=w"], "--weight-columns gives 'w' to two columns."),
]
LATER = [
    (["--time-units", "day=s"], "has no column 'day' for --time-units"),
    (["--time-units", "x=s"], "--time-units names 'x', which is not read as ids"),
    (["--time-units", "user=s"], "dates, timestamps, times or durations"),
    (["--time-units", "when=s", "--string-columns", "when"], "--string-columns and --time-units both name 'when'"),
    (["--nulls", "none=drop"], "has no column 'none' for --nulls"),
    (["--nulls", "click=error"], "--nulls names 'click', which is no input"),
    (["--nulls", "x=drop"], "--nulls x=drop: a dense input has a value in each row"),
    (["--nulls", "x=default(many)"], "--nulls x=default(many): the default must be a number"),
    (["--nulls", "user=default(1.5)"], "--nulls user=default(1.5): the default must be a whole number"),
    (["--weight-columns", "x=scores"], "--weight-columns names 'x', which is not read as ids"),
    (["--weight-columns", "tags=none"], "has no column 'none' for --weight-columns"),
    (["--weight-columns", "tags=user"], "'user'"),
    (["--weight-columns", "tags=click"], "--weight-columns names 'click', which --label or --truth reads"),
    (["--weight-columns", "tags=scores", "--skip", "scores"], "--skip and --weight-columns both name 'scores'"),
]


@pytest.mark.parametrize(("flags", "said"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_rule_is_told_at_once(capsys: Any, flags: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--data", "x", "--label", "click", *flags])
    err = capsys.readouterr().err
    assert (stop.value.code, len(err.splitlines())) == (2, 1)
    assert said in err


def test_what_the_columns_do_not_hold(capsys: Any, tmp_path: Path) -> None:
    args = ["train", "--data", written(tmp_path), "--label", "click", "--json", "--dim", "2", "--backend", "torch"]
    for flags, said in LATER:
        assert said in refused(capsys, *args, *flags), flags
    with pytest.raises(SystemExit):
        main(["train", "--preset", "tiny", "--nulls", "user=error"])
    assert "--nulls goes with --data; --preset brings its own columns." in capsys.readouterr().err


def test_weights_by_name_beside_those_that_a_flag_names_are_no_silent_input(tmp_path: Path, capsys: Any) -> None:
    """The column is refused until a flag says what it is."""
    other = [[0.1, n / 20] for n in range(N)]
    path = written(tmp_path, tags_weight=other)
    named = {"weight_columns": ("tags=scores",), "skip": ()}
    said = refused(capsys, "train", "--data", path, "--label", "click", "--weight-columns", "tags=scores", "--json")
    assert "'tags_weight' holds by its name the weights of 'tags', and --weight-columns gives it 'scores'" in said
    assert "--skip tags_weight leaves the column out, --dense-columns tags_weight makes it a dense input." in said
    left_out = batch(path, **{**named, "skip": ("tags_weight",)})
    made = batch(path, **{**named, "dense_columns": ("tags_weight",)})
    assert left_out["dense"].shape[1] + 2 == made["dense"].shape[1]
    for each in (left_out, made):
        assert each["tags"].weight().tolist()[:2] == [0.5, 0.0]
