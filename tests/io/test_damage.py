"""Damaged files: each is read whole, or refused by file, column and piece; never read as fewer rows."""

import os
import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from recis_core.backends.errors import RecisError
from recis_core.io import ParquetDataset, dataset_of
from recis_core.io.arrow_format import ArrowFormat
from tests.io.files import opened, write

R = 2400
RNG = np.random.default_rng(0)
TABLE = pa.table(
    {
        "user": RNG.integers(0, 2**62, R),
        "name": [f"text {n % 97}" for n in range(R)],
        "items": [list(range(n % 4)) for n in range(R)],
    }
)
FULL = os.environ.get("RECIS_TEST_FULL") == "1"


def ipc(new, compression):
    def write_ipc(path):
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.OSFile(str(path), "wb") as file, new(file, TABLE.schema, options=options) as writer:
            writer.write_table(TABLE, max_chunksize=900)

    return write_ipc


def csv(path):
    with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "gzip") as zipped:
        pyarrow.csv.write_csv(TABLE.drop_columns(["items"]), zipped)


WRITERS = {
    "x.parquet": lambda path: pq.write_table(TABLE, path, row_group_size=900, write_page_checksum=True),
    "x.orc": lambda path: pyarrow.orc.write_table(TABLE, str(path), stripe_size=12_000, compression="zlib"),
    "file.arrow": ipc(pa.ipc.new_file, "zstd"),
    "stream.arrows": ipc(pa.ipc.new_stream, None),
    "x.csv.gz": csv,
}
CHECKED = ("x.parquet", "x.csv.gz")  # whose bytes have checksums: a flip changes no value unseen


def rows_read(path):
    """Rows, and the sum of ids; the refusal's words."""
    try:
        dataset = opened(path, "user", "name")
        if "items" in dataset.columns:
            dataset.varlen_feature("items")
        batches = list(dataset)
        return sum(len(batch["user"]) for batch in batches), sum(int(b["user"].values().sum()) for b in batches), ""
    except (ValueError, TypeError, OSError, RecisError) as error:
        return 0, 0, str(error)


def test_cut_at_every_sixteenth(tmp_path):
    for name, writer in WRITERS.items():
        writer(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        assert rows_read(tmp_path / name)[0] == R
        for part in range(16):
            for cut in {len(content) * part // 16, len(content) * (part + 1) // 16 - 1}:
                (tmp_path / name).write_bytes(content[:cut])
                rows, _, refusal = rows_read(tmp_path / name)
                assert (rows, name in refusal) == (0, True), (name, cut, len(content), refusal)


def test_a_stream_that_was_cut_between_two_batches(tmp_path):
    """Arrow alone takes it for a shorter one."""
    ipc(pa.ipc.new_stream, None)(tmp_path / "x.arrows")
    content = (tmp_path / "x.arrows").read_bytes()
    (tmp_path / "x.arrows").write_bytes(content[:-8])
    assert pa.ipc.open_stream(content[:-8]).read_all().num_rows == R
    assert "does not end with an end-of-stream mark" in rows_read(tmp_path / "x.arrows")[2]


@pytest.mark.parametrize("name", WRITERS)
def test_flipped_bytes(tmp_path, name):
    WRITERS[name](tmp_path / name)
    content, whole = (tmp_path / name).read_bytes(), rows_read(tmp_path / name)
    for place in np.linspace(0, len(content) - 1, 500 if FULL else 16).astype(int):
        broken = bytearray(content)
        broken[place] ^= 0x41
        (tmp_path / name).write_bytes(bytes(broken))
        rows, total, refusal = rows_read(tmp_path / name)
        assert rows == R or name in refusal, (place, rows, refusal)
        if name in CHECKED and not refusal:
            assert total == whole[1], place


def test_flips_name_column_and_piece(tmp_path):
    for name, piece in (("x.parquet", "row group 1"), ("file.arrow", "record batch 1")):
        WRITERS[name](tmp_path / name)
        content, said = (tmp_path / name).read_bytes(), []
        for place in range(len(content) // 4, len(content) * 3 // 4, len(content) // 20):
            wrong = bytes(b ^ 0xFF for b in content[place : place + 40])
            (tmp_path / name).write_bytes(content[:place] + wrong + content[place + 40 :])
            said.append(rows_read(tmp_path / name)[2])
        assert any(f"{name}, column '" in each and piece in each for each in said), said
        assert all("Write it anew, or leave it out" in each for each in said if each)


# Offsets that do not fit; text that is none.


def broken_ipc(path, array, place, value):
    """An Arrow file or stream whose column x has one wrong offset."""
    table = pa.table({"good": pa.array(range(len(array))), "x": array})
    new = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table)
    right, wrong = [0, 2, 3, 3], [0, 2, 3, 3]
    wrong[place] = value
    content = path.read_bytes()
    assert content.count(struct.pack("<4i", *right)) == 1
    path.write_bytes(content.replace(struct.pack("<4i", *right), struct.pack("<4i", *wrong)))


def test_offsets_that_do_not_fit(tmp_path):
    lists, text = pa.array([[1, 2], [3], []]), pa.array(["ab", "c", ""])
    for array in (lists, text):
        for place, value in ((1, 999_999), (1, -5), (2, 0), (3, 2**31 - 1), (0, -1)):
            for name in ("x.arrow", "x.arrows"):
                broken_ipc(tmp_path / name, array, place, value)
                for method in ("id_feature", "varlen_feature"):
                    dataset = opened(tmp_path / name, "good")
                    assert sum(len(batch["good"]) for batch in dataset) == 3
                    getattr(dataset, method)("x")
                    with pytest.raises(
                        ValueError, match=rf"{name}, column 'x', record batch 0 cannot be read as Arrow"
                    ):
                        list(dataset)


def test_categories_whose_codes_do_not_fit(tmp_path):
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 7, 1], pa.int32()), pa.array(["a", "b"]), safe=False)
    with (
        pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file,
        pa.ipc.new_file(file, pa.schema({"x": codes.type})) as writer,
    ):
        writer.write_table(pa.table({"x": codes}))
    with pytest.raises(ValueError, match=r"x\.arrow, column 'x', record batch 0 .*7"):
        list(opened(tmp_path / "x.arrow", "x"))


def test_text_that_is_no_utf_8(tmp_path):
    raw = pa.array([b"ok", b"caf\xe9", b"x"])
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    lists = pa.ListArray.from_arrays([0, 2, 2, 3], text)
    for column in (text, lists, text.dictionary_encode()):
        table = pa.table({"x": column})
        pq.write_table(table, tmp_path / "x.parquet")
        if not pa.types.is_dictionary(column.type):
            pyarrow.orc.write_table(table, str(tmp_path / "x.orc"))
        with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        for name, piece in (("x.parquet", "row group 0"), ("x.orc", "stripe 0"), ("x.arrow", "record batch 0")):
            with pytest.raises(ValueError, match=rf"{name}, column 'x', {piece} .*UTF8.* write the column as binary"):
                list(opened(tmp_path / name, "x"))
    (tmp_path / "x.csv").write_bytes(b"x,n\nok,1\ncaf\xe9,2\n")
    with pytest.raises(
        ValueError, match=r"x\.csv cannot be read as CSV: column 'x' holds text that is not UTF-8 \(row 1,"
    ):
        opened(tmp_path / "x.csv", "x")
    write(tmp_path / "b.parquet", x=raw)
    assert sum(len(batch["x"]) for batch in opened(tmp_path / "b.parquet", "x")) == 3


# Files that are no files.


def test_what_cannot_be_opened(tmp_path):
    for name in WRITERS:
        (tmp_path / name).write_bytes(b"")
        assert f"{name} cannot be read as" in rows_read(tmp_path / name)[2]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="must name at least one file"):
        dataset_of(tmp_path / "empty")
    write(tmp_path / "s.parquet", x=[{"a": 1}], y=[1])
    for method in ("id_feature", "varlen_feature"):
        dataset = ParquetDataset(1)
        dataset.add_path(tmp_path / "s.parquet")
        with pytest.raises(TypeError, match=r"column 'x' of .*s\.parquet must be .*; got struct<a: int64>"):
            getattr(dataset, method)("x")


def test_a_column_that_goes_away_while_it_is_read(tmp_path):
    write(tmp_path / "a.parquet", x=[1], y=[1])
    dataset = opened(tmp_path / "a.parquet", "x")
    write(tmp_path / "a.parquet", y=[1])
    with pytest.raises(ValueError, match=r"a\.parquet, column 'x', row group 0 cannot be read .*not there any more"):
        list(dataset)


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_an_arrow_file_that_is_cut_while_it_is_read(tmp_path, new):
    """Were it mapped, to touch what is gone would end the process."""
    path = tmp_path / "x.arrow"
    ipc(new, None)(path)
    dataset = opened(path, "user")
    table = ArrowFormat().read_piece(str(path), 0, TABLE.schema)
    os.truncate(path, 1 << 12)
    assert table.equals(TABLE.slice(0, len(table)))
    with pytest.raises(ValueError, match=r"x\.arrow.* cannot be read as Arrow IPC"):
        list(dataset)


@contextmanager
def nobody():
    """Without root's rights, where the tests have them."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_no_permission():
    """Of a file, of a folder to list, of a folder on the way: the system's refusal, with the name."""
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        folder = Path(top) / "log"
        folder.mkdir()
        for name, writer in WRITERS.items():
            writer(folder / name)
            (folder / name).chmod(0)
        os.chmod(top, 0o755)
        for mode in (0o755, 0o311, 0):
            folder.chmod(mode)
            with nobody():
                for name in WRITERS if mode != 0o311 else (None,):
                    path = str(folder) if name is None else str(folder / name)
                    with pytest.raises(PermissionError) as refused:
                        opened(path, "user")
                    assert refused.value.filename == path, (mode, name)
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.chmod(0o644)
        (folder / "day=1").mkdir(0)
        with nobody():
            for path in (
                folder,
                folder / "*" / "*.parquet",
                folder / "**" / "*.parquet",
                folder / "day=*" / "x.parquet",
            ):
                for name in (str(path), f"file://{path}"):
                    with pytest.raises(PermissionError) as refused:
                        ParquetDataset(1).add_path(name)
                    assert str(refused.value.filename).rstrip("/") == f"{folder}/day=1", name
            ParquetDataset(1).add_path(folder / "*.parquet")
        (folder / "day=1").chmod(0o755)


def test_feather_of_version_1(tmp_path):
    (tmp_path / "x.feather").write_bytes(b"FEA1" + b"\0" * 40)
    with pytest.raises(ValueError, match=r"x\.feather cannot be read as Arrow .*version 1.*write it as version 2"):
        opened(tmp_path / "x.feather", "user")
