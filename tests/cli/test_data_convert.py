"""recis data convert: the same rows in another format, whole or not at all."""

import json
import os
import signal
from decimal import Decimal

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from recis_core.cli import main, stopping
from recis_core.io import file_copy
from recis_core.io.external_sort import ExternalSort, group_starts
from recis_core.io.plain_arrays import plain_array
from recis_core.io.whole_files import open_whole

N = 60
RNG = np.random.default_rng(0)
SIMPLE = {
    "int": pa.array([*range(N - 1), None]),
    "text": pa.array([f"é {n % 7}, \"x\"" for n in range(N)]),
    "float": pa.array(RNG.normal(size=N)),
    "flag": pa.array([n % 3 == 0 for n in range(N)]),
    "day": pa.array([n - 9 for n in range(N)], pa.date32()),
    "moment": pa.array([n * 10**9 + 1 for n in range(N)], pa.timestamp("us")),
}  # fmt: skip
NESTED = {
    "lists": pa.array([[*range(n % 4), None] if n % 5 else None for n in range(N)]),
    "deep": pa.array([[[n], []] for n in range(N)]),
    "map": pa.array([[("a", n), ("b", None)] for n in range(N)], pa.map_(pa.string(), pa.int64())),
    "struct": pa.array([{"a": n, "b": ["x"]} if n else None for n in range(N)]),
    "money": pa.array([Decimal(n).scaleb(-2) for n in range(N)], pa.decimal128(9, 2)),
    "bytes": pa.array([bytes([n, 255]) for n in range(N)]),
    "category": pa.array([f"c{n % 3}" for n in range(N)]).dictionary_encode(),
    "narrow": pa.array(list(range(N)), pa.uint8()),
}
ENDINGS = ("parquet", "orc", "arrows", "csv", "tsv")


def convert(*argv):
    return main(["data", "convert", *map(str, argv)])


def rows(path):
    whole = open_whole(path)
    return pa.concat_tables(whole.tables(), promote_options="none")


def refused(capsys, *argv):
    assert convert(*argv) == 1
    return capsys.readouterr().err


def test_from_every_format_to_every_format(tmp_path):
    for nested in (False, True):
        table = pa.table(SIMPLE | (NESTED if nested else {}))
        pq.write_table(table, tmp_path / f"{nested}.parquet", row_group_size=25)
        for first in ENDINGS:
            if nested and first.startswith(("csv", "tsv")):
                continue
            source = tmp_path / f"{nested}-{first}.{first}"
            assert convert(tmp_path / f"{nested}.parquet", source) == 0
            for second in (*ENDINGS, "csv.gz") if not nested else ("parquet", "orc", "arrow"):
                out = tmp_path / f"{nested}-{first}-{second}.{second}"
                assert convert(source, out) == 0
                found = rows(out)
                assert {n: found[n].to_pylist() for n in table.column_names} == table.to_pydict(), (first, second)
    assert [name for name in os.listdir(tmp_path) if name[0] == "."] == []
    assert (
        pq.ParquetFile(tmp_path / "True-arrows-parquet.parquet", page_checksum_verification=True).read().num_rows == N
    )


def test_types_stay_where_the_format_has_them(tmp_path):
    kinds = {"u64": pa.uint64(), "half": pa.float16(), "big": pa.large_list(pa.int8()), "clock": pa.time64("ns")}
    table = pa.table({name: pa.nulls(3, kind) for name, kind in kinds.items()})
    pq.write_table(table, tmp_path / "x.parquet")
    assert convert(tmp_path / "x.parquet", tmp_path / "x.arrow") == 0
    assert rows(tmp_path / "x.arrow").schema == table.schema


def test_views_runs_and_categories_at_every_level_are_their_values(tmp_path, capsys):
    """Also of slices, and under nulls. pyarrow's own cast of list views gives arrays whose offsets do not fit."""
    labels = pa.array(["a", "b", "a", None]).dictionary_encode()
    runs, views = pc.run_end_encode(pa.array([1, 1, 2, None])), pa.array(["a", None, "b", "c"]).cast(pa.string_view())
    lists = pa.array([["a"], None, ["b", None], []], pa.list_view(pa.string_view()))
    offsets = pa.array([0, 1, 1, 3, 4], pa.int32())
    columns = {
        "labels": labels, "runs": runs, "views": views, "lists": lists, "large": lists.cast(pa.list_view(pa.string_view())),
        "of labels": pa.ListArray.from_arrays(offsets, labels), "of runs": pa.ListArray.from_arrays(offsets, runs),
        "of views": pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), views),
        "fixed": pa.FixedSizeListArray.from_arrays(labels, 1), "of lists": pa.ListArray.from_arrays(offsets, lists),
        "struct": pa.StructArray.from_arrays([views, labels, lists], ["v", "l", "x"], mask=pa.array([False, True] * 2)),
        "map": pa.MapArray.from_arrays(pa.array([0, 1, None, 3, 4], pa.int32()), pa.array(["k", "l", "m", "n"]), labels),
    }  # fmt: skip
    table = pa.table(columns)
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    for end in ("parquet", "arrow", "orc"):
        out = tmp_path / f"out.{end}"
        assert convert(tmp_path / "x.arrow", out) == 0, capsys.readouterr().err
        found = rows(out)
        found.validate(full=True)
        assert found.to_pydict() == table.to_pydict(), end
    for name, array in columns.items():
        for begin in range(4):
            part = plain_array(array.slice(begin, 2))
            part.validate(full=True)
            assert part.to_pylist() == array.to_pylist()[begin : begin + 2], (name, begin)


def test_columns_sizes_and_json(tmp_path, capsys):
    pq.write_table(pa.table(SIMPLE), tmp_path / "x.parquet", row_group_size=7)
    for flags, sizes in (
        (["--files", 4], [15] * 4), (["--rows-per-file", 25], [25, 25, 10]), (["--rows-per-file", 999], [60]), ([], [60]),
    ):  # fmt: skip
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        assert convert(tmp_path / "x.parquet", out, "--to", "orc", "--columns", "text", "int", "--json", *flags) == 0
        said = json.loads(capsys.readouterr().out)
        assert said == {"rows": 60, "files": len(sizes), "out": str(out), "columns": 2}
        files = sorted(out.iterdir())
        assert [file.name for file in files] == [f"part-{n:05d}.orc" for n in range(len(sizes))]
        assert [pa.orc.ORCFile(str(file)).nrows for file in files] == sizes
        assert rows(out).to_pydict() == {name: SIMPLE[name].to_pylist() for name in ("text", "int")}


def test_files_that_differ_and_partition_folders_become_one(tmp_path):
    for year, kind in (("2023", pa.int32()), ("2024", pa.int64())):
        (tmp_path / "log" / f"year={year}").mkdir(parents=True)
        column = pa.array(["a", "b"])
        table = pa.table({"n": pa.array([1, 2], kind), "c": column if year == "2023" else column.dictionary_encode()})
        pq.write_table(
            table.select(["n", "c"] if year == "2023" else ["c", "n"]), tmp_path / f"log/year={year}/x.parquet"
        )
    memory = fsspec.filesystem("memory")
    for file in (tmp_path / "log").rglob("*.parquet"):
        memory.pipe(f"/log/{file.parent.name}/x.parquet", file.read_bytes())
    for source in (tmp_path / "log", "memory://log"):
        out = tmp_path / f"{str(source)[0] == 'm'}.arrow"
        assert convert(source, out) == 0
        assert rows(out).to_pydict() == {"n": [1, 2, 1, 2], "c": ["a", "b"] * 2, "year": [2023, 2023, 2024, 2024]}
    memory.store.clear()


class Untransacted(MemoryFileSystem):
    """As file systems without transactions are: a file is there as soon as it is written."""

    protocol = "untransacted"
    store, pseudo_dirs = {}, [""]

    def _open(self, path, mode="rb", **options):
        if mode == "wb" and path.endswith(self.broken):
            raise OSError("no space left there")
        file = super()._open(path, mode, **options)
        if mode == "wb":
            file.commit()
        return file

    broken = "nothing"


@pytest.fixture
def urls(monkeypatch):
    """Of a file system with transactions, and of one without: (URL, fsspec's)."""
    fsspec.register_implementation("untransacted", Untransacted, clobber=True)
    systems = {f"{name}://b": fsspec.filesystem(name) for name in ("memory", "untransacted")}
    yield systems
    for fs in systems.values():
        fs.store.clear()
        fs.pseudo_dirs[:] = [""]


def test_to_a_url(tmp_path, capsys, urls):
    pq.write_table(pa.table(SIMPLE), tmp_path / "x.parquet")
    for url, fs in urls.items():
        assert (
            convert(tmp_path / "x.parquet", f"{url}/one.arrow", "--sort-by", "float", "--columns", "int", "float") == 0
        )
        assert convert(f"{url}/one.arrow", f"{url}/many", "--to", "csv.gz", "--files", 7, "--json") == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["files"] == 7
        assert len(fs.ls(f"{url}/many")) == 7
        for found in (rows(f"{url}/one.arrow"), rows(f"{url}/many")):
            assert found.to_pydict() == pa.table(SIMPLE).select(["int", "float"]).sort_by("float").to_pydict()
        for taken in ("one.arrow", "many"):
            assert "is there already, and is not replaced" in refused(
                capsys, tmp_path / "x.parquet", f"{url}/{taken}", "--to", "arrow"
            )
    assert convert(tmp_path / "x.parquet", f"file://{tmp_path}/y.arrow") == 0
    assert rows(tmp_path / "y.arrow").num_rows == N
    assert "give the URL behind the last ::" in refused(capsys, tmp_path / "x.parquet", "simplecache::memory://b/o.csv")
    assert "nosuch://o.csv cannot be opened" in refused(capsys, tmp_path / "x.parquet", "nosuch://o.csv")
    assert sorted(os.listdir(tmp_path)) == ["x.parquet", "y.arrow"]


def test_what_breaks_off_leaves_nothing_at_a_url(tmp_path, capsys, urls, monkeypatch):
    pq.write_table(pa.table(SIMPLE), tmp_path / "x.parquet")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Untransacted, "broken", "part-00002.orc")
    said = refused(
        capsys, tmp_path / "x.parquet", "untransacted://b/many", "--to", "orc", "--files", 4, "--columns", "int"
    )
    assert "no space left there" in said
    for url, fs in urls.items():
        monkeypatch.setattr(type(fs), "size", lambda fs, name: 7)
        said = refused(capsys, tmp_path / "x.parquet", f"{url}/one.orc", "--columns", "int")
        assert f"{url}/one.orc has 7 bytes after it was written, instead of" in said
        monkeypatch.setattr(
            "recis_core.io.remote_output.shutil.copyfileobj", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
        )
        assert convert(tmp_path / "x.parquet", f"{url}/two", "--to", "orc", "--columns", "int") == 143
        monkeypatch.undo()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        assert fs.find(url) == []
        assert not fs.exists(f"{url}/many")
        assert not fs.exists(f"{url}/two")
    assert os.listdir(tmp_path) == ["x.parquet"]


def test_sorted_in_little_memory(tmp_path):
    """Many runs, several merges: as Arrow sorts all at once, equal rows in their order."""
    n = 8_000
    table = pa.table(
        {
            "k": pa.array(RNG.integers(0, 50, n), mask=RNG.random(n) < 0.1),
            "s": pa.array([f"{i}" for i in RNG.integers(0, 9, n)]),
            "at": np.arange(n),
            "l": [[1]] * n,
        }
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=200)
    order = pc.sort_indices(table, sort_keys=[("k", "ascending"), ("s", "ascending"), ("at", "ascending")])
    for memory in ("20KB", "300KB", "1GB"):
        out = tmp_path / f"{memory}.parquet"
        assert convert(tmp_path / "x.parquet", out, "--sort-by", "k", "s", "--memory", memory) == 0
        assert rows(out).equals(table.take(order))
    out = tmp_path / "clusters"
    flags = ["--cluster-by", "k", "--rows-per-file", 1000, "--to", "parquet", "--memory", "100KB"]
    assert convert(tmp_path / "x.parquet", out, *flags) == 0
    keys = [set(pq.read_table(file)["k"].to_pylist()) for file in sorted(out.iterdir())]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 51
    assert len(keys) > 3
    assert sorted(rows(out)["at"].to_pylist()) == list(range(n))


def test_memory_of_a_sort_is_bounded(tmp_path):
    """By blocks: no table that it makes is larger than the bound."""
    n, memory = 200_000, 400_000
    tables = [pa.table({"k": RNG.integers(0, 9**9, 2000)}) for _ in range(n // 2000)]
    before, most, seen = pa.total_allocated_bytes(), 0, []
    for table in ExternalSort(["k"], str(tmp_path), memory).sorted(iter(tables)):
        most = max(most, pa.total_allocated_bytes() - before)
        seen.append(table["k"].to_numpy().copy())
    assert most < 2 * memory
    assert (np.diff(np.concatenate(seen)) >= 0).all()
    assert len(np.concatenate(seen)) == n
    assert list(tmp_path.iterdir()) == []


def test_groups():
    table = pa.table({"a": [None, None, 1, 1, 2], "b": ["x", "x", "x", "y", "y"]})
    assert group_starts(table, ["a"]) == [2, 4]
    assert group_starts(table, ["a", "b"]) == [2, 3, 4]
    assert group_starts(table.slice(0, 0), ["a"]) == group_starts(table.slice(0, 1), ["a"]) == []


def test_nothing_is_replaced_and_nothing_half_is_left(tmp_path, capsys, monkeypatch):
    pq.write_table(pa.table(SIMPLE), tmp_path / "x.parquet", row_group_size=7)
    (tmp_path / "there.orc").write_text("mine")
    (tmp_path / "folder").mkdir()
    for out, flags in (("there.orc", []), ("folder", ["--to", "csv"]), ("x.parquet", [])):
        assert "is there already, and is not replaced" in refused(
            capsys, tmp_path / "x.parquet", tmp_path / out, *flags
        )
    assert (tmp_path / "there.orc").read_text() == "mine"
    before = sorted(os.listdir(tmp_path))
    write = file_copy.Shards.write
    for raised, status in ((OSError(28, "No space left on device"), 1), (stopping.Stopped(), 0)):

        def broken(self, table, raised=raised):
            write(self, table)
            if len(self.files) == 2:
                raise raised

        monkeypatch.setattr(file_copy.Shards, "write", broken)
        flags = ["--to", "parquet", "--rows-per-file", 10, "--sort-by", "int", "--memory", "1KB"]
        assert convert(tmp_path / "x.parquet", tmp_path / "out", *flags) == status
        assert sorted(os.listdir(tmp_path)) == before
    monkeypatch.undo()

    def taken(aside, path):
        (tmp_path / "late.orc").write_text("another's")
        return put(aside, path)

    from recis_core.cli import aside as places

    put = places.put
    monkeypatch.setattr(places, "put", taken)
    assert "late.orc: File exists" in refused(capsys, tmp_path / "x.parquet", tmp_path / "late.orc")
    assert (tmp_path / "late.orc").read_text() == "another's"


def test_what_a_format_does_not_hold(tmp_path, capsys):
    for end, kind, said in (
        ("csv", pa.list_(pa.int8()), "CSV holds no list<item: int8> of column 'x'"),
        ("csv", pa.binary(), "CSV holds no binary"),
        ("orc", pa.uint64(), "ORC holds no uint64"),
        ("orc", pa.list_(pa.duration("s")), "ORC holds no list<item: duration[s]>"),
    ):
        pq.write_table(pa.table({"n": [1], "x": pa.nulls(1, kind)}), tmp_path / "x.parquet")
        assert said in refused(capsys, tmp_path / "x.parquet", tmp_path / f"y.{end}")
        assert not (tmp_path / f"y.{end}").exists()
    (tmp_path / "two").mkdir()
    for n in (1, 2**40):
        pq.write_table(pa.table({"x": pa.array([n], pa.timestamp("s"))}), tmp_path / f"two/{n}.parquet")
    err = refused(capsys, tmp_path / "two", tmp_path / "y.orc")
    assert f"{tmp_path}/two/{2**40}.parquet, column 'x' of timestamp[ms] cannot be timestamp[ns]" in err
    pq.write_table(pa.table({"x": [1, None]}), tmp_path / "x.parquet")
    assert "2 rows were written to CSV, and 1 can be read: nothing is kept" in refused(
        capsys, tmp_path / "x.parquet", tmp_path / "y.csv"
    )
    assert sorted(os.listdir(tmp_path)) == ["two", "x.parquet"]


def test_sources_that_do_not_go_together(tmp_path, capsys):
    pq.write_table(pa.table({"x": [1], "y": [1]}), tmp_path / "a.parquet")
    for column, said in (
        ({"x": ["1"]}, f"column 'x' is int64 in {tmp_path}/a.parquet and string in {tmp_path}/b.parquet"),
        ({"x": [0.5]}, "do not go together"),
        ({"x": [[1]]}, "do not go together"),
        ({}, f"{tmp_path}/b.parquet has no column 'x'"),
        ({"x": [1], "z": [1]}, f"{tmp_path}/b.parquet has column 'z', which other files lack"),
    ):
        pq.write_table(pa.table(column | {"y": [1]}), tmp_path / "b.parquet")
        assert said in refused(capsys, tmp_path, tmp_path / "out.arrow")
    assert convert(tmp_path, tmp_path / "out.arrow", "--columns", "y") == 0
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(content[: len(content) // 2])
    assert "b.parquet cannot be read as Parquet" in refused(capsys, tmp_path / "*.parquet", tmp_path / "o.arrow")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("x.parquet out", "out must end in .parquet"),
        ("x.parquet out --to xlsx", "--to must be one of parquet, pq, orc"),
        ("x.parquet o.csv --to orc", "o.csv does not end in .orc"),
        ("x.parquet o.csv --files 2 --rows-per-file 3", "give --files or --rows-per-file, not both"),
        ("x.parquet o.csv --sort-by a --cluster-by b", "give --sort-by or --cluster-by, not both"),
        ("x.parquet o.csv --files 0", "--files should be greater than or equal to 1; got 0"),
        ("x.parquet o.csv --memory lots", "--memory must be a size such as 512MB"),
    ],
)
def test_wrong_flags(capsys, flags, said):
    with pytest.raises(SystemExit) as stop:
        main(["data", "convert", *flags.split()])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_types_that_a_format_or_a_sort_lacks(tmp_path, capsys):
    odd = pa.table({"union": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]), "n": [1]})
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pa.ipc.new_file(file, odd.schema) as writer:
        writer.write_table(odd)
    for out, form in (("o.parquet", "Parquet"), ("o.arrow", "Arrow IPC")):
        assert f"{form}" in (err := refused(capsys, tmp_path / "x.arrow", tmp_path / out))
        assert "column 'union'" in err
    months = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    with (
        pa.OSFile(str(tmp_path / "y.arrow"), "wb") as file,
        pa.ipc.new_file(file, pa.schema({"m": months.type})) as writer,
    ):
        writer.write_table(pa.table({"m": months}))
    assert "Parquet does not hold all columns" in refused(capsys, tmp_path / "y.arrow", tmp_path / "y.parquet")
    assert not (tmp_path / "y.parquet").exists()
    assert convert(tmp_path / "x.arrow", tmp_path / "o.parquet", "--columns", "n") == 0
    kinds = [pa.bool_(), pa.float16(), pa.time32("s"), pa.duration("ns"), pa.decimal256(50, 1), pa.null(), pa.binary(2)]
    table = pa.table({f"c{n}": pa.nulls(3, kind) for n, kind in enumerate(kinds)} | {"n": [3, 1, 2]})
    pq.write_table(table, tmp_path / "k.parquet")
    for name in table.column_names:
        status = convert(
            tmp_path / "k.parquet", tmp_path / f"{name}.arrow", "--cluster-by", name, "n", "--files", 3, "--to", "arrow"
        )
        assert status == 0 or f"--cluster-by {name}: a column of" in capsys.readouterr().err


def test_sort_columns_that_have_no_order(tmp_path, capsys):
    pq.write_table(pa.table({"x": [[1]], "y": [1]}), tmp_path / "x.parquet")
    for name, said in (("x", "--sort-by x: a column of list"), ("z", "--sort-by names 'z', which is no column")):
        assert said in refused(capsys, tmp_path / "x.parquet", tmp_path / "o.parquet", "--sort-by", name)
