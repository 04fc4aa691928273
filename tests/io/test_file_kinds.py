"""Readers on files as people have them: which files, what is in them, and errors that name file, column and row."""

import gzip

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch

from recis_core.io import ArrowDataset, CsvDataset, ParquetDataset, hash_strings
from recis_core.ragged import RaggedTensor
from tests.io.files import frame, ids, opened, write

# Files of one data set that differ.


@pytest.mark.parametrize("batch_size", [2, 3])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1, 2], pa.int32()), pa.array([3, 4], pa.int64())),
        (pa.array([1, 2], pa.float32()), pa.array([3, 4], pa.float64())),
        (pa.array([1, 2], pa.float16()), pa.array([3, 4], pa.float32())),
        (pa.array([[1], [2]]), pa.array([[3], [4]], pa.large_list(pa.int64()))),
        (pa.array([[1], [2]], pa.list_(pa.int64(), 1)), pa.array([[3], [4]], pa.list_(pa.int8()))),
        (pa.array([True, False]), pa.array([3, 4], pa.uint64())),
    ],
    ids=str,
)
def test_files_that_differ_are_read_as_one(tmp_path, batch_size, first, second):
    write(tmp_path / "0.parquet", a=first, b=[1, 2])
    pq.write_table(pa.table({"b": [3, 4], "a": second}), tmp_path / "1.parquet")
    dataset = ParquetDataset(batch_size, dtype=None)
    dataset.add_path(tmp_path)
    dataset.varlen_feature("a")
    batches = list(dataset)
    start = [1, 0] if pa.types.is_boolean(first.type) else [1, 2]
    assert [v for batch in batches for v in batch["a"].values().tolist()] == [*start, 3, 4]
    assert len({batch["a"].dtype for batch in batches}) == 1


def test_nullability_does_not_matter(tmp_path):
    for name, nullable in (("0", False), ("1", True)):
        schema = pa.schema([pa.field("a", pa.int64(), nullable=nullable)])
        pq.write_table(pa.table([pa.array([1, 2])], schema=schema), tmp_path / f"{name}.parquet")
    assert ids(tmp_path, "a") == [1, 2, 1, 2]


@pytest.mark.parametrize("added_first", [True, False])
def test_types_that_do_not_go_together_are_named_before_the_first_batch(tmp_path, added_first):
    write(tmp_path / "0.parquet", a=[1], b=[1])
    write(tmp_path / "1.parquet", a=["x"], b=[1])
    dataset = ParquetDataset(2)
    if added_first:
        dataset.add_path(tmp_path)
    else:
        dataset.varlen_feature("a")
    with pytest.raises(TypeError, match=r"column 'a' is int64 in .*0\.parquet and string in .*1\.parquet"):
        dataset.varlen_feature("a") if added_first else dataset.add_path(tmp_path)
    if not added_first:
        assert dataset.rows == 0  # nothing was added
        dataset.add_path(tmp_path / "0.parquet")
    dataset.varlen_feature("b")
    assert dataset.rows == (2 if added_first else 1)


def test_a_column_that_is_missing_in_one_file(tmp_path):
    write(tmp_path / "0.parquet", a=[1])
    write(tmp_path / "1.parquet", b=[1])
    with pytest.raises(ValueError, match=r"1\.parquet has no column 'a'; it has b"):
        opened(tmp_path, "a")


# Defaults.


@pytest.mark.parametrize("default", [float("nan"), 0.5, [float("inf")], 2**63, [0, 0.5]])
@pytest.mark.parametrize("added_first", [True, False])
def test_defaults_that_integers_cannot_be(tmp_path, default, added_first):
    path = write(tmp_path / "n.parquet", a=[1, None, 0])
    dataset = ParquetDataset(10)
    if added_first:
        dataset.add_path(path)
    with pytest.raises(
        ValueError, match=r"column 'a' of .*n\.parquet holds integers, so its default_value must be an integer"
    ):
        named_and_added(dataset, default, path)


def named_and_added(dataset, default, path):
    dataset.fixedlen_feature("a", default)
    dataset.add_path(path)


def test_defaults_that_are_no_numbers(tmp_path):
    for default, error in (("0", TypeError), (None, TypeError), ([], ValueError), ([1, "x"], TypeError)):
        with pytest.raises(error, match="default_value of 'a' must"):
            ParquetDataset(10).fixedlen_feature("a", default)
    dataset = ParquetDataset(10)
    dataset.add_path(write(tmp_path / "n.parquet", a=[1.0], s=["x"]))
    with pytest.raises(ValueError, match=r"read as torch.float32, which cannot hold the default_value 1e\+300"):
        dataset.fixedlen_feature("a", 1e300)
    with pytest.raises(ValueError, match=r"column 's' of .* is text; a fixed-length feature is a number"):
        dataset.fixedlen_feature("s", 0)


def test_defaults_that_fit(tmp_path):
    dataset = ParquetDataset(10)
    dataset.add_path(
        write(tmp_path / "n.parquet", i=[1, None], f=[None, 1.5], b=[True, None], d=pa.array([None, 3], pa.date32()))
    )
    for name, default in (("i", 7.0), ("f", float("nan")), ("b", np.int64(0)), ("d", -1)):
        dataset.fixedlen_feature(name, default)
    [batch] = dataset
    assert {name: batch[name].tolist() for name in "ibd"} == {"i": [1, 7], "b": [1, 0], "d": [-1, 3]}
    assert batch["f"].isnan().tolist() == [True, False]


# Rows.


def test_errors_name_the_row_of_the_file(tmp_path):
    """Over files, row groups, shuffles, shares and windows."""
    for name in "ab":
        labels = [0] * 50
        labels[37] = 5 if name == "b" else 1
        pq.write_table(pa.table({"y": labels}), tmp_path / f"{name}.parquet", row_group_size=7)
    for shuffle in (False, True):
        for size in (1, 9, 1000):
            dataset = ParquetDataset(size, shuffle=shuffle)
            dataset.add_path(tmp_path)
            dataset.label_feature("y")
            dataset.window(3, 100)
            with pytest.raises(
                ValueError, match=r"b\.parquet, column 'y', row 37 \(the first is 0\): must be 0 or 1; got 5\."
            ):
                list(dataset)


def test_rows_of_weights_and_of_fixed_lists(tmp_path):
    lists = [[1.0, 2.0]] * 30 + [[1.0]] + [[1.0, 2.0]] * 30
    write(tmp_path / "a.parquet", f=lists, u=[[1]] * 61, w=[[0.5]] * 50 + [[0.5, 1.0]] + [[1.0]] * 10)
    dataset = opened(tmp_path, batch_size=8)
    dataset.fixedlen_feature("f", [0.0, 0.0])
    with pytest.raises(ValueError, match=r"a\.parquet, column 'f', row 30 .*must hold 2 values"):
        list(dataset)
    dataset = opened(tmp_path, batch_size=8)
    dataset.id_feature("u", weight="w")
    with pytest.raises(ValueError, match=r"a\.parquet, column 'u', row 50 .*as many ids as 'w' weights; got 1 and 2"):
        list(dataset)


def test_timestamps_beyond_microseconds(tmp_path):
    write(tmp_path / "a.parquet", t=pa.array([1, 2**53], pa.timestamp("ms")))
    assert ids(tmp_path, "t") == [1000, 2**53 * 1000]
    pyarrow.feather.write_feather(pa.table({"t": pa.array([1, 2**62], pa.timestamp("s"))}), str(tmp_path / "a.arrow"))
    with pytest.raises(ValueError, match=r"a\.arrow, column 't', row 1 .*: must be a timestamp that microseconds"):
        ids(tmp_path / "a.arrow", "t")


# Formats.


DAY = 1_704_067_201_000_000


def test_formats_agree(tmp_path):
    frame().to_parquet(tmp_path / "x.parquet")
    frame().to_parquet(tmp_path / "x.pq")
    frame().to_orc(tmp_path / "x.orc")
    frame().to_feather(tmp_path / "x.feather")
    for end in (".csv", ".csv.gz", ".csv.bz2"):
        frame().to_csv(tmp_path / f"x{end}", index=False)
    frame().to_csv(tmp_path / "x.tsv", index=False, sep="\t")
    pl.from_pandas(frame()).write_parquet(tmp_path / "p.parquet")
    pl.from_pandas(frame()).write_ipc(tmp_path / "p.arrow")
    pl.from_pandas(frame()).write_csv(tmp_path / "p.csv")
    files = sorted(path for path in tmp_path.iterdir())
    assert len(files) == 11
    for file in files:
        [batch] = opened(file, "user", "name", "day")
        assert batch["user"].values().tolist() == [5, 6, 7], file
        assert batch["name"].values().tolist() == hash_strings(["a", "é"]).tolist(), file
        assert batch["name"].lengths().tolist() == [1, 0, 1], file
        assert batch["day"].values().tolist() == [DAY] * 3, file


def test_types_of_csv_are_those_of_all_rows(tmp_path):
    lines = ["big,mixed,flag,real,seven"] + [f"{2**64 - 1 - n},{n},true,.5,007" for n in range(99)] + ["5,x,false,,8"]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    dataset = CsvDataset(100)
    dataset.add_path(tmp_path / "x.csv")
    assert list(map(str, dataset.columns.values())) == ["uint64", "string", "bool", "double", "int64"]
    dataset.id_feature("big")
    dataset.id_feature("seven", text=True)
    dataset.dense_feature("real")
    [batch] = dataset
    assert batch["big"].values()[:2].tolist() == [-1, -2]
    assert batch["seven"].values().tolist() == hash_strings(["007"] * 99 + ["8"]).tolist()
    assert batch["real"][-2:].tolist() == [[0.5], [0.0]]


def test_types_that_only_arrow_files_have(tmp_path):
    text = pa.array(["a", "b"]).cast(pa.string_view()).dictionary_encode()
    columns = {
        "categories": text,
        "lists": pa.ListArray.from_arrays([0, 1, 2], text),
        "views": pa.array([["a"], ["b"]], pa.list_view(pa.string_view())),
        "runs": pa.compute.run_end_encode(pa.array(["a", "b"])),
    }
    pyarrow.feather.write_feather(pa.table(columns), str(tmp_path / "x.arrow"), compression="uncompressed")
    for name in columns:
        assert ids(tmp_path / "x.arrow", name) == hash_strings(["a", "b"]).tolist(), name
        dataset = opened(tmp_path / "x.arrow", name)
        dataset.varlen_feature(name)
        assert bytes(next(iter(dataset))[name].values().tolist()) == b"ab"
        shuffled = ArrowDataset(2, shuffle=True)
        shuffled.add_path(tmp_path / "x.arrow")
        shuffled.id_feature(name)
        assert sorted(next(iter(shuffled))[name].values().tolist()) == sorted(hash_strings(["a", "b"]).tolist()), name


def test_mistakes_in_csv_name_their_row(tmp_path):
    (tmp_path / "x.csv").write_text("a,y\n1,0\n2,l\n3,1\n")
    dataset = CsvDataset(100)
    dataset.add_path(tmp_path / "x.csv")
    with pytest.raises(
        TypeError, match=r"column 'y' of .*x\.csv must be .*got string \(row 1, the first is 0, holds 'l'\)"
    ):
        dataset.label_feature("y")
    (tmp_path / "x.csv").write_text("a,y\n1,0\n2,1,5\n")
    for content, message in (
        (b"a,y\n1,0\n2,1,5\n", r"row 1 \(the first is 0\): Expected 2 columns, got 3"),
        (b"a;y\n1;0\n", "its line of names is one name, 'a;y'; columns are separated by commas"),
        ("a,y\n1,0\n".encode("utf-16"), "(CSV parse error|'utf-8' codec)"),
        (b"", "Empty CSV file"),
    ):
        (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(ValueError, match=rf"x\.csv cannot be read as CSV: .*{message}"):
            CsvDataset(100).add_path(tmp_path / "x.csv")


def test_text_that_looks_missing_is_text(tmp_path):
    (tmp_path / "x.csv").write_text('country\nNA\nnull\n""\nNaN\n\nDE\n')
    assert ids(tmp_path / "x.csv", "country") == hash_strings(["NA", "null", "NaN", "DE"]).tolist()


def test_small_decimals(tmp_path):
    narrow = pa.array(["1.50", "2.00"]).cast(pa.decimal128(5, 2)).cast(pa.decimal32(5, 2))
    pyarrow.feather.write_feather(pa.table({"x": narrow}), str(tmp_path / "x.arrow"), compression="uncompressed")
    assert ids(tmp_path / "x.arrow", "x") == [*hash_strings(["1.5"]).tolist(), 2]


# Text.


def test_hash_strings_is_what_readers_do(tmp_path):
    texts = ["a", "é", "", "long " * 99]
    write(tmp_path / "a.parquet", s=texts)
    dataset = opened(tmp_path, "s")
    hashed = next(iter(dataset))["s"].values().tolist()
    dataset.varlen_feature("s")
    raw = next(iter(dataset))["s"]
    assert hash_strings(raw).values().tolist() == hashed
    for given in (
        texts,
        np.array(texts),
        pd.Series(texts),
        pl.Series(texts),
        pa.array(texts),
        [t.encode() for t in texts],
    ):
        assert hash_strings(given).tolist() == hashed
    assert hash_strings(["a"]).tolist() == [-1817709641818812897]  # for good


def test_what_hash_strings_refuses():
    for given, error in (
        ("abc", "takes many strings"), ([1], "must hold str or bytes; got int"), (["a", None], "texts[1] is missing"),
        ([float("nan")], "texts[0] is missing"), (RaggedTensor(torch.tensor([1]), torch.tensor([0, 1])), "RaggedTensor of text"),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError)) as refused:
            hash_strings(given)
        assert error in str(refused.value)


def test_gzip_that_is_none(tmp_path):
    (tmp_path / "x.csv.gz").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"x\.csv\.gz cannot be read as CSV"):
        CsvDataset(1).add_path(tmp_path / "x.csv.gz")
    with gzip.open(tmp_path / "x.csv.gz", "wb") as file:
        file.write(b"a,b\n1,2\n")
    assert ids(tmp_path / "x.csv.gz", "a") == [1]
