"""Folders, partitions and damaged files: which files a data set is made of, and what is said of those that are none."""

import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from recis_core.backends.errors import RecisError
from recis_core.io import ArrowDataset, CsvDataset, OrcDataset, ParquetDataset, dataset_of, hash_strings
from recis_core.io.paths import expand
from tests.io.files import frame, ids, opened, write


def test_folders_leave_out_what_is_hidden(tmp_path):
    write(tmp_path / "a.parquet", a=[1])
    for name in ("_SUCCESS", ".a.parquet.crc", "._b.parquet", "_metadata", "README.txt"):
        (tmp_path / name).write_text("x")
    assert ids(tmp_path, "a") == ids(tmp_path / "*.parquet", "a") == [1]
    with pytest.raises(ValueError, match=r"README\.txt has no suffix of a format that is read: Parquet"):
        dataset_of(str(tmp_path / "*"))
    (tmp_path / "README.txt").unlink()
    assert ids(tmp_path / "*", "a") == [1]


def test_folders_that_are_named_as_files(tmp_path):
    write(tmp_path / "day1.parquet" / "part-0.parquet", a=[1])
    write(tmp_path / "day2.parquet" / "part-0.parquet", a=[2])
    (tmp_path / "day2.parquet" / "_SUCCESS").write_text("")
    assert ids(tmp_path / "day*.parquet", "a") == [1, 2]


def test_two_formats_in_one_folder(tmp_path):
    frame().to_parquet(tmp_path / "x.parquet")
    frame().to_csv(tmp_path / "x.csv")
    with pytest.raises(ValueError, match=r"of one format; .*x\.csv is CSV, .*x\.parquet is Parquet"):
        dataset_of(str(tmp_path))
    assert ids(tmp_path / "*.parquet", "user") == [5, 6, 7]


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(ValueError, match=r"pipe\.parquet is a named pipe; it must be a regular file"):
        ParquetDataset(1).add_path(tmp_path / "pipe.parquet")
    with pytest.raises(ValueError, match="is a device"):
        CsvDataset(1).add_path("/dev/null")
    for path in (tmp_path, tmp_path / "*.parquet"):  # where it would be left out without a word
        with pytest.raises(ValueError, match=r"pipe\.parquet is a named pipe"):
            ParquetDataset(1).add_path(path)
    (tmp_path / "pipe.parquet").unlink()
    (tmp_path / "link.parquet").symlink_to(tmp_path / "gone.parquet")
    for path in (tmp_path, tmp_path / "*"):
        with pytest.raises(ValueError, match=r"link\.parquet is a link to nothing"):
            ParquetDataset(1).add_path(path)
    (tmp_path / "link.parquet").unlink()
    for path in (tmp_path / "none.parquet", tmp_path, tmp_path / "*.parquet"):
        with pytest.raises(FileNotFoundError, match="must name at least one file"):
            ParquetDataset(1).add_path(path)


def test_files_of_a_folder_that_is_not_read_are_said(tmp_path, caplog):
    write(tmp_path / "a.parquet", a=[1])
    write(tmp_path / "more" / "b.parquet", a=[2])
    write(tmp_path / "day=1" / "c.parquet", a=[3])
    (tmp_path / "notes").mkdir()
    assert ids(tmp_path, "a") == [1, 3]
    [said] = {record.getMessage() for record in caplog.records if record.name == "recis_core.io"}
    assert said.startswith(f"{tmp_path}/more/b.parquet is not read: its folder is no NAME=VALUE")
    assert ids(tmp_path / "**" / "*.parquet", "a") == [1, 3, 2]


@pytest.mark.parametrize("kind", [ParquetDataset, OrcDataset, ArrowDataset, CsvDataset])
def test_damaged_files_are_named(tmp_path, kind):
    good = tmp_path / "good.bin"
    {ParquetDataset: frame().to_parquet, OrcDataset: frame().to_orc, ArrowDataset: frame().to_feather}.get(
        kind, frame().to_csv
    )(good)
    for name, content in (("empty", b""), ("noise", b"\x00\xff" * 40), ("short", good.read_bytes()[:-9])):
        if kind is CsvDataset and name == "short":
            continue
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} (cannot be read as|has two columns)"):
            kind(1).add_path(tmp_path / name)


def test_bytes_that_flip(tmp_path):
    """A Parquet file is read, or refused by its name; checksums are on where it has them."""
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.integers(0, 9, 500), "s": ["x", None] * 250})
    pq.write_table(table, tmp_path / "x.parquet", write_page_checksum=True)
    content = (tmp_path / "x.parquet").read_bytes()
    wanted = ids(tmp_path / "x.parquet", "a")
    for _ in range(60):
        broken = bytearray(content)
        broken[rng.integers(len(content))] ^= 1 << rng.integers(8)
        (tmp_path / "y.parquet").write_bytes(bytes(broken))
        read, refusal = outcome(tmp_path / "y.parquet")
        assert read == len(wanted) or "y.parquet" in refusal


def outcome(path):
    """(ids read, the refusal's words)"""
    try:
        return len(ids(path, "a")), ""
    except (ValueError, OSError, RecisError) as error:
        return 0, str(error)


def test_two_columns_of_one_name(tmp_path):
    (tmp_path / "x.csv").write_text("a,a\n1,2\n")
    with pytest.raises(ValueError, match=r"x\.csv has two columns named 'a'"):
        CsvDataset(1).add_path(tmp_path / "x.csv")


def test_no_rows(tmp_path):
    write(tmp_path / "a.parquet", a=pa.array([], pa.int64()))
    write(tmp_path / "b.parquet", a=[1])
    assert ids(tmp_path, "a") == [1]
    (tmp_path / "c.csv").write_text("a,b\n")
    assert ids(tmp_path / "c.csv", "a") == []


# Partition folders.


def test_partition_folders_are_columns(tmp_path):
    table = pd.DataFrame({"a": [1, 2, 3], "year": [2023, 2024, 2024], "city": ["x/y", None, "b"]})
    table.to_parquet(tmp_path / "log", partition_cols=["year", "city"])
    for path in (tmp_path / "log", tmp_path / "log" / "year=*" / "*" / "*.parquet", tmp_path / "**" / "*.parquet"):
        [batch] = opened(path, "a", "year", "city")
        found = zip(batch["a"].values().tolist(), batch["year"].values().tolist(), strict=True)
        assert sorted(found) == [(1, 2023), (2, 2024), (3, 2024)]
        assert sorted(batch["city"].values().tolist()) == sorted(hash_strings(["x/y", "b"]).tolist())
    assert expand(tmp_path / "log" / "year=2023", (".parquet",)).popitem()[1] == {"city": "x/y"}


def test_a_partition_that_is_a_column_too(tmp_path):
    write(tmp_path / "year=2024" / "a.parquet", year=[1999])
    assert ids(tmp_path, "year") == [1999]


def test_partitions_that_are_not_all_numbers_are_text(tmp_path):
    for value in ("7", "07", "x"):
        write(tmp_path / f"k={value}" / "a.parquet", a=[1])
    assert ids(tmp_path, "k") == hash_strings(["07", "7", "x"]).tolist()
    shutil.rmtree(tmp_path / "k=x")
    shutil.rmtree(tmp_path / "k=07")
    assert ids(tmp_path, "k") == [7]
